/**
 * Gives a replica many recovery points by its own engine: logs that write, at random places, the bytes that are there. So a guest
 * finds its disks as it left them, and the undo logs hold as much as if it had written.
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
import { Replica } from '../../src/replica/replica.ts';
import { inPieces, seeded } from '../faults/replica-primary.ts';
import { imageBytes } from '../faults/power-loss/second-reader.ts';

/** What a log writes: so many pieces of so many bytes. */
const PIECES = 8;
const PIECE = 64 * 1024;

async function nextLog(replica: Replica, disks: readonly Buffer[], path: string, random: () => number) {
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
  for (let i = 0; i < PIECES; i++) {
    const disk = Math.floor(random() * disks.length);
    const bytes = disks[disk]!;
    const offset = Math.floor((random() * bytes.length) / PIECE) * PIECE;
    await writer.data(disk, offset, bytes.subarray(offset, offset + PIECE));
  }
  await writer.finish({ durable: false });
  return { sequence, logId };
}

/** Adds points to the only replica in a directory, which nobody has open. */
export async function addPoints(replicas: string, count: number, seed: number): Promise<{ id: string }> {
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
      for (let i = 0; i < count; i++) {
        const log = await nextLog(replica, disks, path, random);
        await replica.receive(log, 0, inPieces(await readFile(path)));
        await replica.drained();
      }
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
