/**
 * A primary without a VM, for tests of the replica: its disks are byte arrays, which are the oracle, and each of its
 * cycles changes them at random and makes the delta log of it.
 */
import { randomBytes } from 'node:crypto';
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { WRITER } from '../../src/deltalog/header.ts';
import { REFERENCE_BLOCK } from '../../src/deltalog/frame.ts';
import { presentDisks, shapeOf } from '../../src/model/shape.ts';
import { LogWriter } from '../../src/deltalog/writer.ts';
import type { Position, RecoveryPoint, ReplicatedDisk } from '../../src/model/relationship.ts';
import type { LogName } from '../../src/protocol/endpoint.ts';
import { type Extent, totalLength, union } from '../../src/model/extent.ts';
import { NbdClient } from '../../src/qemu/nbd/client.ts';

/** Sizes that are no multiple of a block, and small: the tests read them whole, many times. */
export const TEST_DISKS: readonly ReplicatedDisk[] = [
  { target: 'vda', size: 1024 * 1024 + 4608 },
  { target: 'vdb', size: 512 * 1024 },
];

/** Numbers in [0, 1) from a seed (mulberry32). */
export function seeded(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** A seed of its own for each run, or the one in `SEED`; the test prints it. */
export function newSeed(): number {
  const given = process.env['SEED'];
  return given === undefined ? randomBytes(4).readUInt32LE() : Number(given);
}

export interface MadeLog extends LogName {
  readonly bytes: Buffer;
  readonly makes: Position;
  readonly point: RecoveryPoint | null;
}

export const START: Position = { epoch: 1, sequence: 0, state: '0'.repeat(32) };

/** A run of a disk that a log's references have to do with: nothing else may be in it. */
interface Reserved extends Extent {
  readonly disk: number;
}

/** Blocks in one. */
const RESERVED = 4;

export interface LogOptions {
  readonly point?: boolean;
  readonly changes?: number;
  /** Whether some blocks are the same as others and the log says so; left out: now and then. */
  readonly refers?: boolean;
  /** Place of a disk all of which is other data from now on, and is in the log. */
  readonly whole?: number;
  readonly header?: Record<string, unknown>;
}

export class TestPrimary {
  readonly id: string;
  disks: readonly ReplicatedDisk[];
  bytes: readonly Buffer[];
  /** What the disks held after each log, by sequence. */
  readonly states = new Map<number, readonly Buffer[]>();
  /** And which disks they were, with their sizes. */
  readonly shapes = new Map<number, readonly ReplicatedDisk[]>();
  position: Position = START;
  /** The states, with what disks that are gone held last. */
  readonly #all = new Map<number, { readonly disks: readonly ReplicatedDisk[]; readonly bytes: readonly Buffer[] }>();
  readonly #random: () => number;
  /** For references, so that a seed makes the same of the rest as without. */
  readonly #chance: () => number;
  #clock = 1_700_000_000_000;

  constructor(seed: number, id = '11111111-2222-4333-8444-555555555555', disks = TEST_DISKS) {
    this.id = id;
    this.disks = disks;
    this.#random = seeded(seed);
    this.#chance = seeded(seed + 1);
    this.bytes = disks.map(({ size }) => Buffer.alloc(size));
    this.#keep();
  }

  between(low: number, high: number): number {
    return low + Math.floor(this.#random() * (high - low + 1));
  }

  /** The disks become these: what is cut off is gone, what is added reads as zeros. The next log says so. */
  reshape(disks: readonly ReplicatedDisk[]): void {
    this.disks = disks;
    this.bytes = disks.map(({ size }, i) => {
      const before = this.bytes[i] ?? Buffer.alloc(0);
      return Buffer.concat([before.subarray(0, size), Buffer.alloc(Math.max(0, size - before.length))]);
    });
  }

  /** It is again as it was after that log. */
  goBack(position: Position): void {
    this.position = position;
    const { disks, bytes } = this.#all.get(position.sequence)!;
    this.disks = disks;
    this.bytes = bytes.map((disk) => Buffer.from(disk));
  }

  /** Changes the disks at random and gives the log of it. */
  async log(options: LogOptions = {}): Promise<MadeLog> {
    const { point: isPoint = true, changes = this.between(1, 12), refers = this.#chance() < 0.5 } = options;
    const directory = await mkdtemp(join(tmpdir(), 'understudy-log-'));
    const sequence = this.position.sequence + 1;
    const { epoch } = this.position;
    const instant = (this.#clock += 1000);
    const point: RecoveryPoint | null = isPoint
      ? { sequence, epoch, instant, confirmed: instant, kind: 'crash-consistent' }
      : null;
    const logId = randomBytes(16).toString('hex');
    const header = {
      writer: WRITER,
      relationship: this.id,
      logId,
      direction: 'forward' as const,
      disks: shapeOf(this.disks),
      follows: this.position,
      sequence,
      epoch,
      point,
      created: instant,
      ...options.header,
    };
    try {
      const path = join(directory, 'log');
      const writer = await LogWriter.create(path, header, { compression: this.#random() < 0.7 ? 1 : 0 });
      const { whole } = options;
      if (whole !== undefined) {
        const data = randomBytes(this.bytes[whole]!.length);
        data.copy(this.bytes[whole]!);
        await writer.data(whole, 0, data);
      }
      const reserved = refers && whole === undefined ? this.#reserve() : [];
      const first = reserved.length > 0 && this.#chance() < 0.5;
      if (first) await this.#refer(writer, reserved);
      for (let i = 0; i < changes; i++) await this.#change(writer, reserved);
      if (!first) await this.#refer(writer, reserved);
      const { makes } = await writer.finish({ durable: false });
      this.position = makes;
      this.#keep();
      return { sequence, logId, bytes: await readFile(path), makes, point };
    } finally {
      await rm(directory, { recursive: true });
    }
  }

  #keep(): void {
    const { sequence } = this.position;
    const bytes = this.bytes.map((disk) => Buffer.from(disk));
    this.#all.set(sequence, { disks: this.disks, bytes });
    this.shapes.set(sequence, presentDisks(this.disks));
    this.states.set(
      sequence,
      bytes.filter((_, i) => this.disks[i]!.gone !== true),
    );
  }

  /** Two or three places of the disks. */
  #reserve(): Reserved[] {
    const length = RESERVED * REFERENCE_BLOCK;
    const slots = this.disks.flatMap(({ size, gone }, disk) =>
      Array.from({ length: gone === true ? 0 : Math.floor(size / length) }, (_, i) => ({
        disk,
        offset: i * length,
        length,
      })),
    );
    const mixed = slots.map((slot) => ({ slot, by: this.#chance() })).toSorted((a, b) => a.by - b.by);
    const [source, ...targets] = mixed.slice(0, this.#chance() < 0.5 ? 2 : 3).map(({ slot }) => slot);
    return targets.length === 0 ? [] : [source!, ...targets];
  }

  /** New data at the first of the places, and some of its blocks at the others; in any order. */
  async #refer(writer: LogWriter, [source, ...targets]: readonly Reserved[]): Promise<void> {
    if (source === undefined) return;
    const data = this.#chance() < 0.5 ? randomBytes(source.length) : Buffer.alloc(source.length, randomBytes(3000));
    data.copy(this.bytes[source.disk]!, source.offset);
    const writes = [() => writer.data(source.disk, source.offset, data)];
    for (const target of targets) {
      const skipped = Math.floor(this.#chance() * RESERVED) * REFERENCE_BLOCK;
      const length = (1 + Math.floor(this.#chance() * (RESERVED - skipped / REFERENCE_BLOCK))) * REFERENCE_BLOCK;
      data.copy(this.bytes[target.disk]!, target.offset, skipped, skipped + length);
      const from = { disk: source.disk, offset: source.offset + skipped };
      writes.push(() => writer.reference(target.disk, target.offset, length, from));
    }
    for (const write of this.#chance() < 0.5 ? writes : writes.toReversed()) await write();
  }

  async #change(writer: LogWriter, reserved: readonly Reserved[]): Promise<void> {
    const there = [...this.disks.keys()].filter((i) => this.disks[i]!.gone !== true);
    const disk = there[this.between(0, there.length - 1)]!;
    const bytes = this.bytes[disk]!;
    const unit = this.between(0, 2) === 0 ? 1 : 65_536; // guests' clusters, as a rule; any byte, to be mean
    const offset = Math.floor(this.between(0, bytes.length - 1) / unit) * unit;
    const length = Math.min(this.between(1, 4) * (unit === 1 ? 4321 : unit), bytes.length - offset);
    const isReserved = reserved.some(
      (run) => run.disk === disk && totalLength(union([run, { offset, length }])) < run.length + length,
    );
    if (isReserved) return;
    if (this.#random() < 0.25) {
      bytes.fill(0, offset, offset + length);
      await writer.zero(disk, offset, length);
      return;
    }
    const data = this.#random() < 0.5 ? randomBytes(length) : Buffer.alloc(length, this.between(0, 255));
    data.copy(bytes, offset);
    await writer.data(disk, offset, data);
  }
}

/** A body in pieces of at most `size` bytes. */
export async function* inPieces(bytes: Buffer, size = 50_000): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += size) yield await Promise.resolve(bytes.subarray(at, at + size));
}

/** A body that never says another word after its first bytes: a connection whose other end has died. */
export async function* thenSilence(bytes: Buffer): AsyncGenerator<Uint8Array> {
  yield bytes;
  await Promise.withResolvers<never>().promise;
}

/** Everything that an NBD server offers of the disks, in their order. */
export async function readDisks(socketPath: string, disks: readonly ReplicatedDisk[]): Promise<Buffer[]> {
  const out: Buffer[] = [];
  for (const { target, size } of disks) {
    const client = await NbdClient.connect({ socketPath, exportName: target });
    try {
      if (client.size !== size) throw new Error(`${target} has ${client.size} bytes, not ${size}`);
      out.push(await client.read(0, size));
    } finally {
      await client.close();
    }
  }
  return out;
}

/** The first byte in which two sets of disks differ, in words; undefined when they are equal. */
export function difference(got: readonly Buffer[], wanted: readonly Buffer[]): string | undefined {
  for (const [disk, bytes] of wanted.entries()) {
    if (got[disk]!.equals(bytes)) continue;
    const at = bytes.findIndex((byte, i) => got[disk]![i] !== byte);
    return `disk ${disk} differs from byte ${at} on`;
  }
  return undefined;
}
