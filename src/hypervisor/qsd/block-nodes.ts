/** What a storage daemon says of its block nodes and jobs, and the few changes that running VMs need. */
import type { Qmp } from '../../qemu/qmp.ts';

export interface NodeBitmap {
  readonly name: string;
  readonly persistent: boolean;
  /** The image wasn't closed: what it says can't be relied on. */
  readonly inconsistent?: boolean;
}

interface BlockNode {
  readonly 'node-name': string;
  readonly drv: string;
  readonly file: string;
  /** A job's own bitmap has no name. */
  readonly 'dirty-bitmaps'?: readonly (NodeBitmap | Omit<NodeBitmap, 'name'>)[];
  readonly image: { readonly 'backing-image'?: { readonly filename: string } };
}

/** An action of a QMP transaction. */
export interface Action {
  readonly type: string;
  readonly data: Readonly<Record<string, unknown>>;
}

export const addBitmap = (
  node: string,
  name: string,
  options: { persistent: boolean; disabled?: boolean },
): Action => ({
  type: 'block-dirty-bitmap-add',
  data: { node, name, ...options },
});

export const removeBitmap = (node: string, name: string): Action => ({
  type: 'block-dirty-bitmap-remove',
  data: { node, name },
});

export const mergeBitmap = (node: string, target: string, from: { node: string; name: string }): Action => ({
  type: 'block-dirty-bitmap-merge',
  data: { node, target, bitmaps: [from] },
});

/** Carries all actions out at one instant, or none. */
export async function transaction(qmp: Qmp, actions: readonly Action[]): Promise<void> {
  if (actions.length > 0) await qmp.execute('transaction', { actions });
}

export async function bitmapsOf(qmp: Qmp, node: string): Promise<readonly NodeBitmap[]> {
  const nodes = await qmp.execute<BlockNode[]>('query-named-block-nodes', { flat: true });
  const all = nodes.find((candidate) => candidate['node-name'] === node)?.['dirty-bitmaps'] ?? [];
  return all.filter((bitmap) => 'name' in bitmap);
}

/** The node right below an overlay, with the path of its image; undefined for a flat image. */
export async function backingOf(
  qmp: Qmp,
  node: string,
): Promise<{ node: string; path: string; format: string } | undefined> {
  const nodes = await qmp.execute<BlockNode[]>('query-named-block-nodes');
  const path = nodes.find((candidate) => candidate['node-name'] === node)?.image['backing-image']?.filename;
  if (path === undefined) return undefined;
  // the protocol node below an image has the same file name
  const found = nodes.find(({ file, drv }) => file === path && (drv === 'qcow2' || drv === 'raw'));
  return found === undefined ? undefined : { node: found['node-name'], path, format: found.drv };
}

export async function hasNode(qmp: Qmp, node: string): Promise<boolean> {
  const nodes = await qmp.execute<BlockNode[]>('query-named-block-nodes', { flat: true });
  return nodes.some((candidate) => candidate['node-name'] === node);
}

export async function hasJob(qmp: Qmp, id: string): Promise<boolean> {
  return (await qmp.execute<{ id: string }[]>('query-jobs')).some((job) => job.id === id);
}
