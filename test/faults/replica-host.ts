/** A place for replicas of a test: directories, and what it takes to look at their points. */
import { copyFile, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Lanes } from '../../src/lanes/lanes.ts';
import { silentLog } from '../../src/lib/log.ts';
import { digest } from '../../src/lib/digest.ts';
import { DIGEST_BLOCK, DIGEST_BYTES } from '../../src/protocol/endpoint.ts';
import type { NewReplica } from '../../src/replica/create.ts';
import { blocksOf, isKnown } from '../../src/digests/digest-file.ts';
import { closeImageDigests, openImageDigests } from '../../src/replica/image-digests.ts';
import type { ReplicaOptions } from '../../src/replica/options.ts';
import { Replica } from '../../src/replica/replica.ts';
import { difference, inPieces, readDisks, type MadeLog, START, type TestPrimary } from './replica-primary.ts';

export interface Place {
  readonly directory: string;
  readonly options: ReplicaOptions;
  clear(): Promise<void>;
}

export async function newPlace(): Promise<Place> {
  const directory = await mkdtemp(join(tmpdir(), 'us-r-'));
  const lanes = new Lanes();
  const options = { directory: join(directory, 'r'), runDirectory: join(directory, 'run'), lanes, log: silentLog() };
  const clear = async (): Promise<void> => {
    await lanes.close();
    await rm(directory, { recursive: true, force: true });
  };
  return { directory, options, clear };
}

export function newReplica(primary: TestPrimary, more: Partial<NewReplica> = {}): NewReplica {
  return {
    id: primary.id,
    vmId: '99999999-2222-4333-8444-555555555555',
    vmName: 'guest',
    definition: '<domain/>',
    epoch: 1,
    intervalSeconds: 5,
    history: 24,
    disks: primary.disks.map(({ target, size }) => ({ target, size })),
    position: START,
    ...more,
  };
}

export async function send(replica: Replica, log: MadeLog): Promise<void> {
  await replica.receive(log, 0, inPieces(log.bytes));
}

/** Digests of all blocks of a disk's bytes. */
export function digestsOf(bytes: Buffer): Buffer {
  const out: Buffer[] = [];
  for (let at = 0; at < bytes.length; at += DIGEST_BLOCK) out.push(digest(bytes.subarray(at, at + DIGEST_BLOCK)));
  return Buffer.concat(out);
}

/** What a drained replica says of its disks, compared with what they hold; undefined when equal. */
export async function compareDigests(replica: Replica, primary: TestPrimary): Promise<string | undefined> {
  for (const [disk, { target, size, gone }] of primary.disks.entries()) {
    if (gone === true) continue;
    const wanted = digestsOf(primary.bytes[disk]!);
    const got = Buffer.from(await replica.questions.digests({ target, from: 0, count: blocksOf(size) }));
    if (!got.equals(wanted)) return `${target}, block ${firstDifference(got, wanted)}`;
  }
  return undefined;
}

/** Looks into the digest files of a replica that isn't open: how many blocks are known. Throws when one is wrong. */
export async function knownDigests(place: Place, primary: TestPrimary): Promise<number> {
  let known = 0;
  for (const [disk, { target, size, gone }] of primary.disks.entries()) {
    if (gone === true) continue;
    const copy = join(place.directory, 'digests');
    await copyFile(join(place.options.directory, 'digests', `${target}.digests`), copy);
    const image = { path: join(place.options.directory, 'disks', `${target}.qcow2`), size };
    const file = await openImageDigests(copy, image);
    const all = await file.read(0, blocksOf(size));
    await closeImageDigests(file, image);
    const wanted = digestsOf(primary.bytes[disk]!);
    for (let at = 0; at < all.length; at += DIGEST_BYTES) {
      const one = all.subarray(at, at + DIGEST_BYTES);
      if (!isKnown(one)) continue;
      if (!one.equals(wanted.subarray(at, at + DIGEST_BYTES))) throw new Error(`${target}: block ${at / 16} is a lie`);
      known++;
    }
  }
  return known;
}

function firstDifference(got: Buffer, wanted: Buffer): number {
  return Math.floor(wanted.findIndex((byte, i) => got[i] !== byte) / DIGEST_BYTES);
}

/** What a point reads as, compared with what the primary's disks held then; undefined when equal. */
export async function compareWithPoint(
  replica: Replica,
  primary: TestPrimary,
  sequence: number,
): Promise<string | undefined> {
  const view = await replica.openView(sequence);
  try {
    const disks = primary.shapes.get(sequence) ?? primary.disks; // a state that the test has put there
    return difference(await readDisks(view.socketPath, disks), primary.states.get(sequence)!);
  } finally {
    await view.close();
  }
}
