/** What no one needs any more and is there still: files of what was cut short, processes, bitmaps. */
import { readdir, readFile } from 'node:fs/promises';
import { join, relative } from 'node:path';
import { until } from '../../../src/lib/clock.ts';
import { ReplicaLayout } from '../../../src/replica/layout.ts';
import { readUndo } from '../../../src/replica/undo-chain.ts';
import type { Host } from './host.ts';
import type { Relation } from './relation.ts';
import { Violation } from './violation.ts';

/** What is tidied up in the background may take so long, ms. */
const PATIENCE_MS = 30_000;
const NOT_WORTH_MERGING = 10;
/** Names of what only lasts while something is under way. */
const FLEETING = /\.(tmp|part|merge|scratch|new)$|\/views\/[^/]+$|\/test\/|\/inbox\/|\/outbox\//;

/** Waits until a host is tidy, its relationships being held. */
export async function checkTidy(host: Host, relations: readonly Relation[]): Promise<void> {
  let left: string[] = [];
  await until(async () => (left = await leftOvers(host, relations)).length === 0, {
    timeoutMs: PATIENCE_MS,
    everyMs: 200,
    onTimeout: () => new Violation(`${host.name} keeps what nobody needs: ${left.slice(0, 12).join(', ')}`),
  });
}

async function leftOvers(host: Host, relations: readonly Relation[]): Promise<string[]> {
  const files = [...(await below(host.daemon.place.data)), ...(await below(host.replicas))];
  const fleeting = files.filter((path) => FLEETING.test(path));
  const undo = (await Promise.all(relations.map((one) => uselessUndo(host, one)))).flat();
  const bitmaps = (await Promise.all(relations.map((one) => spareBitmaps(host, one)))).flat();
  const engines = host.storageDaemons('replicas').length - relations.filter(({ standby }) => standby === host).length;
  const spare = engines > 0 ? [`${engines} storage daemons`] : [];
  return [...new Set(fleeting), ...undo, ...bitmaps, ...spare];
}

/**
 * Each point but the latest has an undo log that leads to it. Those of points that were given up are merged away, but for such as are
 * smaller than half of their neighbours: a handful.
 */
async function uselessUndo(host: Host, relation: Relation): Promise<string[]> {
  if (relation.standby !== host) return [];
  const { undo } = new ReplicaLayout(join(host.replicas, relation.id));
  const logs = await Promise.all((await readdir(undo)).map((name) => readUndo(join(undo, name))));
  const leading = logs.filter(({ point }) => point !== null).length;
  const points = await relation.points();
  if (leading < points.length + NOT_WORTH_MERGING) return [];
  return [`${leading} undo logs of ${relation.vmName} for ${points.length} points`];
}

/** A VM that runs here has the one that counts since the last position. */
async function spareBitmaps(host: Host, { home, vmId, vmName }: Relation): Promise<string[]> {
  if (home !== host) return [];
  const path = join(host.daemon.place.data, 'vms', `${vmId}.json`);
  const { bitmaps } = JSON.parse(await readFile(path, 'utf8')) as { bitmaps: Record<string, unknown> };
  const names = Object.keys(bitmaps);
  return names.length <= 1 ? [] : [`bitmaps ${names.join(' ')} of ${vmName}`];
}

async function below(directory: string): Promise<string[]> {
  const entries = await readdir(directory, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => `/${relative(directory, join(entry.parentPath, entry.name))}`);
}
