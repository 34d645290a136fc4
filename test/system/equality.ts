import assert from 'node:assert/strict';
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import type { HostDaemon } from '../../lab/daemons/host-daemon.ts';
import { until } from '../../src/lib/clock.ts';
import { digest } from '../../src/lib/digest.ts';
import { VM, hurry, protectedNow } from './two-hosts.ts';

const APPLY_TIMEOUT_MS = 60_000;

/** Recovery points on the Replica server, the latest one first. */
export async function pointsOf(replica: HostDaemon, vm = VM) {
  return await replica.client.call('pointList', { ref: vm });
}

/**
 * Replica and primary are byte-equal. The guest's CPUs are stopped for it: nothing writes any more, and what the
 * replica has next as its latest point must be what the primary's images hold, byte for byte.
 */
export async function assertByteEqual(
  primary: HostDaemon,
  replica: HostDaemon,
  scratch: string,
  vm = VM,
): Promise<void> {
  await primary.host.virsh('suspend', vm);
  try {
    const level = protectedNow(primary, undefined, vm);
    await hurry(primary, vm);
    const { protectedUntil, disks } = await level;
    await until(async () => ((await pointsOf(replica, vm))[0]?.confirmed ?? 0) >= protectedUntil!, {
      timeoutMs: APPLY_TIMEOUT_MS,
      onTimeout: () => new Error(`${replica.host.name} has no point of ${protectedUntil}\n${replica.lastWords()}`),
    });
    const { sequence } = (await pointsOf(replica, vm))[0]!;
    for (const { target, path } of disks) {
      const file = await exportPoint(replica, scratch, vm, sequence, target);
      const compare = ['qemu-img', 'compare', '-U', '-f', 'qcow2', '-F', 'raw', path, file];
      const { code, stdout, stderr } = await primary.host.exec(compare);
      assert.equal(code, 0, `${target} at point ${sequence}: ${stdout}${stderr}`);
      rmSync(file);
    }
  } finally {
    await primary.host.virsh('resume', vm);
  }
}

/** What some recovery points hold: a digest for each disk of each. @param targets of the disks that they have; all if left out. */
export async function contentOf(
  replica: HostDaemon,
  scratch: string,
  sequences: readonly number[],
  targets?: readonly string[],
): Promise<Record<string, string>> {
  const content: Record<string, string> = {};
  const disks = targets ?? (await replica.show(VM)).disks.map(({ target }) => target);
  for (const sequence of sequences) {
    for (const target of disks) {
      const file = await exportPoint(replica, scratch, VM, sequence, target);
      content[`${target} at point ${sequence}`] = digest(readFileSync(file)).toString('hex');
      rmSync(file);
    }
  }
  return content;
}

async function exportPoint(
  replica: HostDaemon,
  scratch: string,
  vm: string,
  point: number,
  disk: string,
): Promise<string> {
  const file = join(scratch, `${disk}-${point}.raw`);
  await replica.act('pointExport', { ref: vm, point, disk, file, format: 'raw' });
  return file;
}
