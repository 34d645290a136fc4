import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { WRITER } from '../deltalog/header.ts';
import { Lanes } from '../lanes/lanes.ts';
import { MiB, pattern, scratchClient, scratchDaemon, scratchDisk } from '../qemu/testing.ts';
import { PointReader } from './capture.ts';
import { Outbox } from './outbox.ts';
import { itemSize, Pace } from './pace.ts';
import { workOf, type Work } from './work.ts';

const SIZE = 24 * MiB;

for (const limit of [
  { bytesPerSecond: 20 * MiB, iops: 0 },
  { bytesPerSecond: 0, iops: 20 },
]) {
  test(`several lanes together read no faster than ${JSON.stringify(limit)}`, { timeout: 60_000 }, async (t) => {
    const place = await scratchDaemon(t);
    await scratchDisk(place, 'disk', SIZE);
    const writer = await scratchClient(t, place.daemon, 'disk');
    for (let at = 0; at < SIZE; at += MiB) await writer.write(at, pattern(MiB, at / MiB));
    const lanes = new Lanes(2);
    t.after(() => lanes.close());
    const state = '0'.repeat(32);
    const log = await new Outbox(join(place.directory, 'outbox')).begin(
      {
        writer: WRITER,
        relationship: 'r',
        logId: '1'.repeat(32),
        direction: 'forward',
        disks: [{ target: 'vda', size: SIZE }],
        follows: { epoch: 1, sequence: 0, state },
        sequence: 1,
        epoch: 1,
        point: null,
        created: 0,
      },
      SIZE,
    );
    const { nbdSocket: socketPath } = place.daemon;
    const exports = [{ target: 'vda', size: SIZE, socketPath, exportName: 'disk', dirtyContext: null }];
    await using reader = new PointReader({ instant: 0, instantEnd: 0, exports, scratchFiles: [] }, exports);
    const pace = new Pace();
    const began = performance.now();
    let ahead = 0;
    const onGrown = () => {
      const seconds = (performance.now() - began) / 1000 + 0.1; // what a full bucket holds
      const most = limit.iops === 0 ? limit.bytesPerSecond * seconds : limit.iops * MiB * seconds;
      ahead = Math.max(ahead, log.dataBytes - most);
    };
    await reader.pack(workOf(0, [{ offset: 0, length: SIZE, zero: false }], itemSize(limit)), log, {
      lanes,
      bytes: SIZE * 2,
      level: new SharedArrayBuffer(4),
      known: [],
      signal: t.signal,
      pace: (work: Work) => pace.take(work, limit),
      onGrown,
    });
    await log.finish();
    assert.equal(log.dataBytes, SIZE);
    assert.ok(performance.now() - began >= 1000, `${performance.now() - began} ms`);
    assert.ok(ahead <= 0, `${ahead} bytes more than allowed`);
  });
}
