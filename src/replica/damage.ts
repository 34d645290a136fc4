/**
 * What is known to be damaged of a replica: blocks of its flat disks that don't read any more as what was written there, and undo logs
 * that don't check out. It lies in the record, so that it is never forgotten before it is mended; what it says of recovery points:
 *
 * - a point that reads a damaged block from the disk holds it: it is used only when a person says so;
 * - a point whose way back leads over a damaged undo log can't be read: it isn't used at all;
 * - the others are untouched.
 *
 * A block is mended by the primary, which sends it again. If what it sends is what had been written there (nothing has changed in it
 * since), it goes into the disk *before* the undo log is made: then all points that read it there are whole again. Else the undo log
 * takes the damaged bytes with it, and the older points that hold them stay marked until they are retired.
 */
import { z } from 'zod';
import { FrameKind } from '../deltalog/frame.ts';
import { LogReader, type FrameEntry } from '../deltalog/reader.ts';
import { digest } from '../lib/digest.ts';
import { Failure } from '../model/failure.ts';
import { clip, totalLength, union, without, type Extent } from '../model/extent.ts';
import type { RecoveryPoint, ReplicatedDisk } from '../model/relationship.ts';
import { presentDisks } from '../model/shape.ts';
import { MAX_DAMAGE, type DiskExtent } from '../protocol/endpoint.ts';
import type { NbdClient } from '../qemu/nbd/client.ts';
import type { ReceivedLog } from './inbox.ts';
import type { RecordFile } from './record.ts';
import type { UndoChain } from './undo-chain.ts';

const count = z.number().int().min(0);

export const damageSchema = z.strictObject({
  /** Blocks of disks. */
  blocks: z.array(
    z.strictObject({
      target: z.string(),
      offset: count,
      length: count.min(1),
      /** Digest of what was written there, 32 hex digits; null: what it should be isn't known. */
      right: z.string().nullable(),
      /** Not written again yet: the latest state holds it. */
      open: z.boolean(),
      /** Sequences of recovery points that hold it. */
      points: z.array(count),
      /** ms since the epoch. */
      found: count,
    }),
  ),
  /** Undo logs, by the sequence in their name. */
  undo: z.array(z.strictObject({ sequence: count, why: z.string(), found: count })),
});
export type DamageRecord = z.infer<typeof damageSchema>;
type DamagedBlock = DamageRecord['blocks'][number];

export const NO_DAMAGE: DamageRecord = { blocks: [], undo: [] };

/** Why a recovery point isn't whole. */
export interface Unsound {
  /** False: it can't be read at all. */
  readonly readable: boolean;
  readonly why: string;
}

/** A log as damage meets it, before it is applied. */
export interface Meeting {
  /** The record's damage once the log is in the disks, which are these now, and has made `latest`. */
  readonly after: (latest: RecoveryPoint | null, disks: readonly ReplicatedDisk[]) => DamageRecord;
}

export class Damage {
  readonly #record: RecordFile;
  readonly #chain: UndoChain;

  constructor(record: RecordFile, chain: UndoChain) {
    this.#record = record;
    this.#chain = chain;
  }

  get #now(): DamageRecord {
    return this.#record.value.damage;
  }

  /** Blocks that are to be sent again. */
  get open(): DiskExtent[] {
    const open = this.#now.blocks.filter((block) => block.open);
    return open.slice(0, MAX_DAMAGE).map(({ target, offset, length }) => ({ target, offset, length }));
  }

  get isEmpty(): boolean {
    return this.#now.blocks.length === 0 && this.#now.undo.length === 0;
  }

  /** Points that aren't whole, by sequence. */
  get unsound(): ReadonlyMap<number, Unsound> {
    const out = new Map<number, Unsound>();
    for (const { target, offset, points } of this.#now.blocks) {
      const why = `it holds damaged bytes on ${target} at ${offset}`;
      for (const sequence of points) if (!out.has(sequence)) out.set(sequence, { readable: true, why });
    }
    const damaged = new Map(this.#now.undo.map(({ sequence, why }) => [sequence, why]));
    let why: string | undefined;
    for (const log of this.#chain.logs.toReversed()) {
      why ??= damaged.get(log.follows.sequence);
      if (why !== undefined && log.point !== null) out.set(log.point.sequence, { readable: false, why });
    }
    return out;
  }

  /**
   * Failure `point-damaged` for a point that isn't whole.
   * @param anyway a person takes it as it is, where it can be read.
   */
  requireSound(sequence: number, anyway = false): void {
    const unsound = this.unsound.get(sequence);
    if (unsound === undefined || (anyway && unsound.readable)) return;
    const hint = unsound.readable
      ? 'Wait until it is mended (with contact to the primary that happens by itself), choose another recovery point, or add --damaged to take it as it is.'
      : 'Choose another recovery point: `understudy point list` says which are whole.';
    throw new Failure('point-damaged', `recovery point ${sequence} is damaged: ${unsound.why}`, { hint });
  }

  /** Blocks don't read as what was written. Gives those that weren't known. While nothing is applied. */
  async found(disk: number, blocks: readonly (Extent & { readonly right: string | null })[]): Promise<Extent[]> {
    const { target } = this.#record.value.disks[disk]!;
    const known = new Set(this.#now.blocks.filter((one) => one.open && one.target === target).map((one) => one.offset));
    const fresh = blocks.filter(({ offset }) => !known.has(offset));
    if (fresh.length === 0) return [];
    const entries: DamagedBlock[] = [];
    for (const block of fresh) {
      entries.push({ target, ...block, open: true, points: await this.#holding(disk, block), found: Date.now() });
    }
    await this.#record.update(({ damage }) => ({ damage: { ...damage, blocks: [...damage.blocks, ...entries] } }));
    return fresh;
  }

  /** The primary has the same there: the latest state is right. What older points hold isn't known better than before. */
  async proven(disk: number, from: number, to: number): Promise<void> {
    const { target } = this.#record.value.disks[disk]!;
    const isProven = (one: DamagedBlock) => one.open && one.target === target && one.offset >= from && one.offset < to;
    if (!this.#now.blocks.some(isProven)) return;
    const latest = this.#record.value.latest?.sequence;
    await this.#record.update(({ damage }) => {
      const blocks = damage.blocks.map((one) =>
        isProven(one) ? { ...one, open: false, points: one.points.filter((sequence) => sequence !== latest) } : one,
      );
      return { damage: this.#pruned({ ...damage, blocks }) };
    });
  }

  /** An undo log doesn't check out. Gives the sequences of the points that can't be read any more; undefined where it was known. */
  async foundUndo(sequence: number, why: string): Promise<number[] | undefined> {
    if (this.#now.undo.some((one) => one.sequence === sequence)) return undefined;
    const entry = { sequence, why, found: Date.now() };
    await this.#record.update(({ damage }) => ({ damage: { ...damage, undo: [...damage.undo, entry] } }));
    return [...this.unsound].flatMap(([point, { readable }]) => (readable ? [] : [point]));
  }

  /**
   * A log is about to be applied, and the undo log isn't made yet: what it carries of damaged blocks as they had been written goes into
   * the disks at once. Undefined when there is no damage.
   */
  async meet(received: ReceivedLog, disks: readonly NbdClient[]): Promise<Meeting | undefined> {
    if (this.isEmpty) return undefined;
    const outcome = new Map<DamagedBlock, DamagedBlock | undefined>();
    const reader = await LogReader.open(received.path);
    try {
      const frames = await reader.index();
      for (const block of this.#now.blocks.filter(({ open }) => open)) {
        const disk = this.#record.value.disks.findIndex(({ target }) => target === block.target);
        const touching = frames.filter((frame) => frame.disk === disk && clip(frame, block.offset, endOf(block)));
        if (touching.length === 0) continue;
        const covered = totalLength(union(touching.map((frame) => clip(frame, block.offset, endOf(block))!)));
        if (await heals({ reader, frames, touching }, block, disks[disk]!)) outcome.set(block, undefined);
        else if (covered === block.length) outcome.set(block, { ...block, open: false });
        else outcome.set(block, { ...block, right: null });
      }
    } finally {
      await reader.close();
    }
    return {
      after: (latest, disks) => {
        const blocks = this.#now.blocks.flatMap((block) => {
          const met = outcome.has(block) ? outcome.get(block) : block;
          if (met === undefined) return [];
          const next = within(met, disks);
          return next.open && latest !== null ? { ...next, points: [...next.points, latest.sequence] } : next;
        });
        return this.#pruned({ ...this.#now, blocks }, latest);
      },
    };
  }

  /** Without what nobody can meet any more. */
  #pruned({ blocks, undo }: DamageRecord, latest = this.#record.value.latest): DamageRecord {
    const there = new Set(this.#chain.reachable.map(({ sequence }) => sequence));
    if (this.#record.value.latest !== null) there.add(this.#record.value.latest.sequence);
    if (latest !== null) there.add(latest.sequence);
    const logs = new Set(this.#chain.logs.map(({ follows }) => follows.sequence));
    return {
      blocks: blocks
        .map((block) => ({ ...block, points: block.points.filter((sequence) => there.has(sequence)) }))
        .filter(({ open, points }) => open || points.length > 0),
      undo: undo.filter(({ sequence }) => logs.has(sequence)),
    };
  }

  /** Points that read a part of a block from the disk: their way back covers less than all of it. */
  async #holding(disk: number, block: Extent): Promise<number[]> {
    const { latest } = this.#record.value;
    const points = latest === null ? [] : [latest.sequence];
    let left: Extent[] = [{ offset: block.offset, length: block.length }];
    for (const log of this.#chain.logs.toReversed()) {
      const frames = (await framesOf(log.path)).filter((frame) => frame.disk === disk);
      left = without(left, frames);
      if (left.length === 0) break;
      if (log.point !== null && log.point.sequence !== latest?.sequence) points.push(log.point.sequence);
    }
    return points;
  }
}

/** What is cut off with the end of a disk, or goes with it, is no part of the latest state any more; older points may hold it. */
function within(block: DamagedBlock, disks: readonly ReplicatedDisk[]): DamagedBlock {
  const { size = 0 } = presentDisks(disks).find(({ target }) => target === block.target) ?? {};
  if (!block.open || endOf(block) <= size) return block;
  const left = clip(block, 0, size);
  return left === undefined ? { ...block, open: false } : { ...left, right: null };
}

const endOf = ({ offset, length }: Extent): number => offset + length;

/** What can't be read covers nothing. */
async function framesOf(path: string): Promise<readonly FrameEntry[]> {
  try {
    const reader = await LogReader.open(path);
    try {
      return await reader.index();
    } finally {
      await reader.close();
    }
  } catch (error) {
    if (error instanceof Failure && error.code === 'bad-log') return [];
    throw error;
  }
}

/** A log, and those of its frames that touch a block. */
interface TouchingLog {
  readonly reader: LogReader;
  readonly frames: readonly FrameEntry[];
  readonly touching: readonly FrameEntry[];
}

/** What data frames of one disk hold of a range. */
async function copyData(reader: LogReader, data: readonly FrameEntry[], range: Extent, target: Buffer): Promise<void> {
  for (const frame of data) {
    const part = clip(frame, range.offset, endOf(range));
    if (part === undefined) continue;
    const held = await reader.data(frame);
    held.copy(target, part.offset - range.offset, part.offset - frame.offset, endOf(part) - frame.offset);
  }
}

/** Puts a block right if the log's bytes over the disk's are what had been written there. */
async function heals(
  { reader, frames, touching }: TouchingLog,
  { offset, length, right }: DamagedBlock,
  disk: NbdClient,
): Promise<boolean> {
  if (right === null) return false;
  const bytes = Buffer.alloc(length);
  await disk.readInto(bytes, offset);
  for (const frame of touching) {
    const part = clip(frame, offset, offset + length)!;
    const target = bytes.subarray(part.offset - offset, endOf(part) - offset);
    if (frame.kind === FrameKind.zero) target.fill(0);
    else if (frame.source === undefined) await copyData(reader, [frame], part, target);
    else {
      const from = { offset: frame.source.offset + part.offset - frame.offset, length: part.length };
      const { disk: named } = frame.source;
      await copyData(
        reader,
        frames.filter((one) => one.kind === FrameKind.data && one.disk === named),
        from,
        target,
      );
    }
  }
  if (digest(bytes).toString('hex') !== right) return false;
  await disk.write(offset, bytes);
  await disk.flush();
  return true;
}
