import { Failure } from '../../model/failure.ts';
import { NbdClient } from '../../qemu/nbd/client.ts';
import type { StorageDaemon } from '../../qemu/storage-daemon.ts';
import type { DiskSource } from '../hypervisor.ts';
import { addBitmap, backingOf, bitmapsOf, mergeBitmap, removeBitmap, transaction, type Action } from './block-nodes.ts';

/** A commit that takes longer has failed, ms. */
const COMMIT_MS = 3_600_000;

/**
 * Merges an overlay that is being written into the image below it and goes on there; gives that image's node, or
 * undefined where there is nothing below. What its bitmaps have recorded goes along.
 *
 * QEMU's own end of a commit lets go of the overlay before the lower image's metadata is on the disk: a crash then
 * damages it. So the job is held (`pending`, writes wait), the lower image is flushed, `settle` makes durable that the
 * disk is there from now on, and only then the job is let finish. (QEMU 7.2 flushes by itself when it is the topmost image
 * that is committed, not when it is one below; we don't count on either.)
 */
export async function commitLive(
  daemon: StorageDaemon,
  target: string,
  node: string,
  settle: (lower: DiskSource) => Promise<void>,
): Promise<string | undefined> {
  const { qmp } = daemon;
  const lower = await backingOf(qmp, node);
  if (lower === undefined) return undefined;
  const { path, format } = lower;
  if (format !== 'qcow2' && format !== 'raw') throw new Failure('disk-unsupported', `${path} is ${format}`);
  const id = `commit-${target}`;
  const reached = async (status: string): Promise<void> => {
    const wanted = [status, 'aborting', 'null'];
    const event = await qmp.waitFor(
      'JOB_STATUS_CHANGE',
      ({ data }) => data['id'] === id && wanted.includes(String(data['status'])),
      COMMIT_MS,
    );
    if (event.data['status'] !== status)
      throw new Failure('disk-engine', `the commit of disk ${target} into ${path} failed`);
  };

  await after(reached('ready'), () =>
    qmp.execute('block-commit', { 'job-id': id, device: node, 'base-node': lower.node, 'auto-finalize': false }),
  );
  await carryBitmaps(daemon, node, lower.node);
  await after(reached('pending'), () => qmp.execute('job-complete', { id }));
  await flush(daemon, lower.node, id);
  await settle({ path, format });
  await after(reached('null'), () => qmp.execute('job-finalize', { id }));
  await daemon.closeNode(node);
  return lower.node;
}

/** Runs what leads to an event, the wait for which has begun; whichever fails first is thrown. */
async function after(event: Promise<void>, cause: () => Promise<unknown>): Promise<void> {
  event.catch(() => undefined); // thrown below, unless its cause failed
  await cause();
  await event;
}

/** From here on the lower image's bitmaps record what the commit still writes. */
async function carryBitmaps(daemon: StorageDaemon, from: string, to: string): Promise<void> {
  const there = new Set((await bitmapsOf(daemon.qmp, to)).map(({ name }) => name));
  const actions: Action[] = [];
  for (const { name, persistent, inconsistent } of await bitmapsOf(daemon.qmp, from)) {
    if (inconsistent === true) {
      if (there.has(name)) actions.push(removeBitmap(to, name)); // it knows less still
      continue;
    }
    if (!there.has(name)) actions.push(addBitmap(to, name, { persistent }));
    actions.push(mergeBitmap(to, name, { node: from, name }));
  }
  await transaction(daemon.qmp, actions);
}

async function flush(daemon: StorageDaemon, node: string, exportName: string): Promise<void> {
  await daemon.exportNode({ node, exportName, writable: false });
  const client = await NbdClient.connect({ socketPath: daemon.nbdSocket, exportName });
  await client.flush();
  await client.close();
  await daemon.closeExport(exportName);
}
