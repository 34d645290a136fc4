/**
 * Two daemons, the Replica server's replicas, or the primary's outbox, on a small file system that gets full. Run by
 * waiting-for-space.qemu.test.ts in a mount namespace of its own. Usage: waiting-for-space.ts DIRECTORY wait|oldest-points|primary
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { open, readFile, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import type { Content } from '../../bench/images/change.ts';
import { fillRandom } from '../../bench/images/random.ts';
import { Pair } from '../../bench/rig/pair.ts';
import { Place } from '../../bench/rig/place.ts';

const MIB = 2 ** 20;
const VM = 'vm';
const [directory = '', policy = ''] = process.argv.slice(2);
const whenFull: 'oldest-points' | 'wait' = policy === 'oldest-points' ? policy : 'wait';

async function fill(path: string, leave: number): Promise<void> {
  const { bavail, bsize } = await statfs(path);
  const file = await open(join(path, 'filler'), 'w');
  await file.write(Buffer.alloc(bavail * bsize - leave));
  await file.close();
}

async function change(pair: Pair, round: number): Promise<void> {
  const content: Content = (target, position) => fillRandom(target, position + round * 2 ** 40);
  await pair.change(VM, [{ offset: round * 2 * MIB, length: 4 * MIB }], content, round);
}

/** The latest point holds what the VM's disk holds. */
async function checkLatest(pair: Pair): Promise<void> {
  const { sequence } = (await pair.latest(VM))!;
  const file = join(directory, `point-${sequence}`);
  const request = { ref: VM, point: sequence, disk: 'vda', file, format: 'raw' } as const;
  const { id } = await pair.replica.client.call('pointExport', request);
  for await (const { state } of pair.replica.client.stream('actionWatch', { action: id }))
    assert.notEqual(state, 'undone');
  const disk = await pair.disk(VM);
  const hash = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
  assert.equal(hash(await readFile(file)), hash(await disk.read(0, disk.size)));
  await disk.close();
  await rm(file);
}

/** The outbox has no room for a log: it is waited for, and a cycle goes as soon as there is. */
async function fullPrimary(pair: Pair): Promise<void> {
  const { client, place: own } = pair.primary;
  const outbox = join(own.data, 'outbox');
  execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64m', 'none', outbox]);
  try {
    await pair.establish();
    await change(pair, 0);
    await pair.cycle(VM);
    const before = (await pair.points(VM)).length;
    await fill(outbox, 0);
    await change(pair, 1);
    await client.call('replicationResume', { ref: VM });
    await pair.until('waiting for space', async () => (await pair.view(VM)).failure?.code === 'no-space');
    assert.equal((await pair.points(VM)).length, before);
    await rm(join(outbox, 'filler'));
    const began = performance.now();
    await pair.until('going on', async () => (await pair.points(VM)).length === before + 1);
    // It looks for room: it doesn't wait for its next try, a minute from the first one and up to half an hour later.
    assert.ok(performance.now() - began < 30_000, `it took ${performance.now() - began} ms`);
    assert.equal((await pair.view(VM)).failure, null);
    await checkLatest(pair);
  } finally {
    execFileSync('umount', ['--lazy', outbox]);
  }
}

const place = new Place(directory);
try {
  const options = {
    name: 'full',
    config: { replica: { whenFull } },
    vms: { [VM]: { history: 8 } },
    diskBytes: 48 * MIB,
  };
  await place.with(Pair.open(place, options), async (pair) => {
    if (policy === 'primary') return await fullPrimary(pair);
    const replicas = join(pair.replica.place.data, 'replicas');
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=128m', 'none', replicas]);
    try {
      await pair.establish();
      for (let round = 0; round < 5; round++) {
        await change(pair, round);
        await pair.cycle(VM);
      }
      const before = await pair.points(VM);
      assert.equal(before.length, 6);
      await fill(replicas, 5 * MIB);
      await change(pair, 6);
      await pair.primary.client.call('replicationResume', { ref: VM });
      if (whenFull === 'wait') {
        await pair.until('waiting for space', async () => (await pair.view(VM)).failure?.code === 'no-space');
        const { failure, state, health, healthReasons } = await pair.view(VM);
        assert.match(failure!.message, /MiB more must be free/);
        assert.deepEqual([state, health], ['Replicating', 'warning']);
        assert.ok(healthReasons.includes(failure!.message));
        assert.deepEqual(await pair.points(VM), before);
        await rm(join(replicas, 'filler'));
        const began = performance.now();
        await pair.until('going on', async () => (await pair.points(VM)).length === 7);
        // It is told that there is room: it doesn't wait for its next try.
        assert.ok(performance.now() - began < 30_000);
        assert.equal((await pair.view(VM)).failure, null);
      } else {
        const known = new Set(before.map(({ sequence }) => sequence));
        const isNew = async () => !known.has((await pair.latest(VM))?.sequence ?? before[0]!.sequence);
        await pair.until('a new point', isNew);
        const left = (await pair.points(VM)).filter(({ sequence }) => known.has(sequence));
        assert.ok(left.length > 0 && left.length < before.length, `${left.length} of ${before.length}`);
        const sequences = (points: typeof before) => points.map(({ sequence }) => sequence);
        assert.deepEqual(sequences(left), sequences(before).slice(0, left.length), 'the oldest go first');
        const events = await pair.replica.client.call('eventList', {});
        assert.equal(events.filter(({ kind }) => kind === 'point-given-up').length, before.length - left.length);
      }
      await checkLatest(pair);
    } finally {
      execFileSync('umount', ['--lazy', replicas]); // the daemon is ended behind this
    }
  });
} finally {
  await place.close();
}
