/** References of a log large enough for several lanes, onto real disks: what they copy is there when they do. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { test } from 'node:test';
import { HEADER } from '../../test/vectors/delta-logs.ts';
import { FrameKind, REFERENCE_BLOCK as BLOCK, type Place } from '../deltalog/frame.ts';
import { checkReferences, LogReader, resumeParser } from '../deltalog/reader.ts';
import { LogWriter } from '../deltalog/writer.ts';
import { digest } from '../lib/digest.ts';
import { Lanes } from '../lanes/lanes.ts';
import { MiB, scratchClient, scratchDaemon, scratchDisk, seededRandom } from '../qemu/testing.ts';
import { applyLog, type LogToApply } from './apply-log.ts';

const DISKS = [
  { target: 'vda', size: 32 * MiB },
  { target: 'vdb', size: 24 * MiB },
];
const LANES = 3;

type Put = (writer: LogWriter, disks: readonly Buffer[]) => Promise<void>;

/** Half of each disk is data, the rest refers to it, block by block and in runs; frames in any order. */
function changes(random: (below: number) => number): { data: Put[]; references: Put[] } {
  const data: Put[] = [];
  const references: Put[] = [];
  const sources: Place[] = [];
  for (const [disk, { size }] of DISKS.entries()) {
    for (let offset = 0; offset < size; offset += 2 * MiB) {
      data.push(async (writer, disks) => {
        const bytes = randomBytes(MiB);
        bytes.copy(disks[disk]!, offset);
        await writer.data(disk, offset, bytes);
      });
      for (let at = offset; at < offset + MiB; at += BLOCK) sources.push({ disk, offset: at });
    }
  }
  for (const [disk, { size }] of DISKS.entries()) {
    for (let offset = MiB; offset < size; offset += 2 * MiB) {
      for (let at = offset; at < offset + MiB;) {
        const source = sources[random(sources.length)]!;
        const left = Math.min(MiB - (source.offset % MiB), offset + MiB - at) / BLOCK;
        const length = (random(2) === 0 ? 1 : 1 + random(left)) * BLOCK;
        const target = at;
        references.push(async (writer, disks) => {
          disks[source.disk]!.copy(disks[disk]!, target, source.offset, source.offset + length);
          await writer.reference(disk, target, length, source);
        });
        at += length;
      }
    }
  }
  return { data, references };
}

void test('several lanes apply a log full of references, with an undo log and without, again and again', async (t) => {
  const place = await scratchDaemon(t);
  for (const { target, size } of DISKS) await scratchDisk(place, target, size);
  const clients = await Promise.all(DISKS.map(({ target }) => scratchClient(t, place.daemon, target)));
  const lanes = new Lanes(LANES);
  t.after(() => lanes.close());
  const before = DISKS.map(({ size }) => randomBytes(size));
  for (const [i, client] of clients.entries()) await client.write(0, before[i]!);

  const wanted = before.map((disk) => Buffer.from(disk));
  const random = seededRandom(randomBytes(4).readUInt32LE());
  const { data, references } = changes(random);
  const path = join(place.directory, 'log');
  const writer = await LogWriter.create(path, { ...HEADER, disks: DISKS }, { compression: 1 });
  // The oracle needs the data first. In the log it is behind the references, so that nothing is there by chance.
  const spare = await LogWriter.create(`${path}.spare`, { ...HEADER, disks: DISKS }, { compression: 0 });
  for (const put of data) await put(spare, wanted);
  await spare.finish({ durable: false });
  for (const put of references) await put(writer, wanted);
  const made = await LogReader.open(spare.path);
  for (const frame of (await made.index()).toSorted(() => random(3) - 1)) {
    await writer.data(frame.disk, frame.offset, await made.data(frame));
  }
  await made.close();
  const { makes } = await writer.finish({ durable: false });
  await checkReferences(path, await resumeParser(path));

  const exports = DISKS.map(({ target }) => ({ socketPath: place.daemon.nbdSocket, exportName: target }));
  const apply = async (undo: LogToApply['undo']): Promise<void> => {
    const digests = await applyLog({ lanes, path, disks: exports, undo });
    for (const [i, client] of clients.entries()) {
      assert.ok((await client.read(0, client.size)).equals(wanted[i]!), `disk ${i}`);
      const known = new Map(
        digests[i]!.flatMap(({ from, digests: run }) =>
          Array.from({ length: run.length / 16 }, (_, at) => [from + at, run.subarray(at * 16, at * 16 + 16)] as const),
        ),
      );
      assert.equal(known.size, client.size / BLOCK, 'every block was written');
      for (const [block, found] of known) {
        assert.ok(found.equals(digest(wanted[i]!.subarray(block * BLOCK, (block + 1) * BLOCK))), `block ${block}`);
      }
    }
  };

  const undoPath = join(place.directory, 'undo');
  const { relationship, follows } = HEADER;
  const request = { path: undoPath, relationship, disks: DISKS, follows: makes, makes: follows, point: null };
  await apply({ request, level: 1, publish: () => Promise.resolve() });
  const undo = await LogReader.open(undoPath);
  const back = wanted.map((disk) => Buffer.from(disk));
  for (const frame of await undo.index()) {
    assert.equal(frame.kind, FrameKind.data);
    (await undo.data(frame)).copy(back[frame.disk]!, frame.offset);
  }
  await undo.close();
  for (const [i, disk] of before.entries()) assert.ok(back[i]!.equals(disk), `disk ${i}, taken back`);

  for (let round = 0; round < 3; round++) {
    for (const [i, client] of clients.entries()) await client.write(0, round === 0 ? wanted[i]! : before[i]!);
    await apply(undefined);
  }
});
