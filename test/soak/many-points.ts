/**
 * Gives a replica many recovery points by its own engine: each log turns over the bytes at some places and puts those of the log
 * before back. So the oldest point and the latest are what a guest has left, and every undo log holds something.
 */
import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { WRITER } from '../../src/deltalog/header.ts';
import { LogWriter } from '../../src/deltalog/writer.ts';
import { Lanes } from '../../src/lanes/lanes.ts';
import { silentLog } from '../../src/lib/log.ts';
import type { RecoveryPoint } from '../../src/model/relationship.ts';
import type { LogName } from '../../src/protocol/endpoint.ts';
import { Replica } from '../../src/replica/replica.ts';
import { inPieces, seeded } from '../faults/replica-primary.ts';
import { imageBytes } from '../faults/power-loss/second-reader.ts';

/** A log turns over so many pieces of so many bytes. */
const PIECES = 8;
const PIECE = 64 * 1024;

interface Place {
  readonly disk: number;
  readonly offset: number;
}

function placesIn(disks: readonly Buffer[], random: () => number): Place[] {
  return Array.from({ length: PIECES }, () => {
    const disk = Math.floor(random() * disks.length);
    return { disk, offset: Math.floor((random() * disks[disk]!.length) / PIECE) * PIECE };
  });
}

/** The next log: puts back what is at `back`, then turns over what is at `over`. */
async function nextLog(
  replica: Replica,
  path: string,
  disks: readonly Buffer[],
  { back, over }: { readonly back: readonly Place[]; readonly over: readonly Place[] },
): Promise<LogName> {
  const { received, epoch } = replica.status();
  const sequence = received.sequence + 1;
  const instant = Date.now();
  const point: RecoveryPoint = { sequence, epoch, instant, confirmed: instant, kind: 'crash-consistent' };
  const logId = randomBytes(16).toString('hex');
  const header = {
    writer: WRITER,
    relationship: replica.id,
    logId,
    direction: 'forward' as const,
    disks: replica.disks.map(({ target, size }) => ({ target, size })),
    follows: received,
    sequence,
    epoch,
    point,
    created: instant,
  };
  const writer = await LogWriter.create(path, header, { compression: 1 });
  const pieceAt = ({ disk, offset }: Place) => disks[disk]!.subarray(offset, offset + PIECE);
  for (const place of back) await writer.data(place.disk, place.offset, pieceAt(place));
  for (const place of over)
    await writer.data(place.disk, place.offset, Buffer.from(pieceAt(place).map((byte) => ~byte)));
  await writer.finish({ durable: false });
  return { sequence, logId };
}

/** Adds points to the only replica in a directory, which nobody has open, until it has `total`. */
export async function addPoints(replicas: string, total: number, seed: number): Promise<{ id: string }> {
  const [name] = await readdir(replicas);
  const scratch = await mkdtemp(join(tmpdir(), 'us-m-'));
  const random = seeded(seed);
  const lanes = new Lanes();
  try {
    const options = { directory: join(replicas, name!), runDirectory: join(scratch, 'run'), lanes, log: silentLog() };
    const disks = await readDisks(options);
    const replica = await Replica.open(options);
    try {
      const path = join(scratch, 'log');
      const count = total - replica.points().length;
      let back: Place[] = [];
      for (let i = 1; i <= count; i++) {
        const over = i === count ? [] : placesIn(disks, random);
        const log = await nextLog(replica, path, disks, { back, over });
        back = over;
        await replica.receive(log, 0, inPieces(await readFile(path)));
      }
      await replica.drained();
      await replica.merged();
      return { id: replica.id };
    } finally {
      await replica.close();
    }
  } finally {
    await lanes.close();
    await rm(scratch, { recursive: true });
  }
}

/** What the replica's disks hold, all that it has received being applied. */
async function readDisks(options: Parameters<typeof Replica.open>[0]): Promise<Buffer[]> {
  const replica = await Replica.open(options);
  try {
    await replica.drained();
  } finally {
    await replica.close();
  }
  return await Promise.all(replica.disks.map(({ path, size }) => imageBytes(path, size)));
}
