/**
 * A replica on a file system that gets full while it receives and while it applies. Run by replica-full-disk.qemu.test.ts
 * in a mount namespace of its own. Usage: replica-full-disk.ts DIRECTORY (a small file system, nothing in it)
 */
import assert from 'node:assert/strict';
import { open, rm, statfs } from 'node:fs/promises';
import { join } from 'node:path';
import { Lanes } from '../../src/lanes/lanes.ts';
import { until } from '../../src/lib/clock.ts';
import { silentLog } from '../../src/lib/log.ts';
import { Replica } from '../../src/replica/replica.ts';
import { compareWithPoint, newReplica, send } from './replica-host.ts';
import { inPieces, TestPrimary } from './replica-primary.ts';

const [place = ''] = process.argv.slice(2);
const filler = join(place, 'filler');

async function fill(leave: number): Promise<void> {
  const { bavail, bsize } = await statfs(place);
  const file = await open(filler, 'w');
  await file.write(Buffer.alloc(bavail * bsize - leave));
  await file.close();
}

const primary = new TestPrimary(21);
const lanes = new Lanes();
const replica = await Replica.create(
  { directory: join(place, 'r'), runDirectory: join(place, 'run'), lanes, log: silentLog() },
  newReplica(primary),
);
try {
  await send(replica, await primary.log({ changes: 20 }));
  await replica.drained();

  const log = await primary.log({ changes: 30 });
  await fill(100_000);
  assert.ok(log.bytes.length > 200_000, 'the log has to be larger than what is left');
  await assert.rejects(send(replica, log), { code: 'no-space' });
  const offset = await replica.durableOffset(log);
  await rm(filler);
  await replica.receive(log, offset, inPieces(log.bytes.subarray(offset)));
  await replica.drained();

  await replica.freeze();
  await send(replica, await primary.log({ changes: 30 }));
  await fill(50_000);
  await replica.thaw();
  await until(() => replica.failure?.code === 'no-space', {
    timeoutMs: 10_000,
    onTimeout: () => new Error(`no failure was told: ${String(replica.failure)}`),
  });
  await rm(filler);
  await replica.drained();
  assert.equal(replica.failure, null);
  for (const { sequence } of replica.points()) {
    assert.equal(await compareWithPoint(replica, primary, sequence), undefined, `point ${sequence}`);
  }
  assert.equal(replica.points().length, 3);
} finally {
  await replica.close();
  await lanes.close();
}
