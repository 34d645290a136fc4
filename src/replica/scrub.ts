/**
 * Looks for damage on what lies at rest: the flat disks, each first in what its image keeps about itself, then against the digests of what was written; undo logs and received logs, by their
 * own. In small steps, whose pace is somebody else's business; a pass that was interrupted goes on where it was.
 */
import { blocksOf } from '../digests/digest-file.ts';
import type { Lanes } from '../lanes/lanes.ts';
import type { ReplicatedDisk } from '../model/relationship.ts';
import { bytesOf } from '../model/verification.ts';
import { DIGEST_BLOCK } from '../protocol/endpoint.ts';
import type { Applier } from './applier.ts';
import { isWholeLog } from './check-log.ts';
import type { Damage } from './damage.ts';
import type { ImagesSound } from './image-sound.ts';
import type { Inbox } from './inbox.ts';
import type { MadeAnew } from './lost-image.ts';
import type { Questions } from './questions.ts';
import type { RecordFile } from './record.ts';
import type { ScrubRecord } from './scrub-record.ts';
import type { UndoChain, UndoLog } from './undo-chain.ts';

/** Blocks of one step: nothing is applied meanwhile. */
const STEP_BLOCKS = 256;

export interface ScrubParts {
  readonly record: RecordFile;
  readonly questions: Questions;
  readonly images: ImagesSound;
  readonly damage: Damage;
  readonly chain: UndoChain;
  readonly inbox: Inbox;
  readonly applier: Applier;
  readonly lanes: Lanes;
  /** Told what was found, in words. */
  readonly onDamage: (text: string) => void;
}

export interface ScrubStep {
  /** What was read, bytes. */
  readonly bytes: number;
  /** The pass is at its end. */
  readonly done: boolean;
}

const MENDED =
  'they are mended; where the disk does not read as what was written, the primary sends it again. To be sure compare both sides (on the primary: understudy verify)';

const beginning = (now: number) => ({ began: now, disk: 0, block: 0, undo: null });

function tellAnew({ points, kept }: MadeAnew): string {
  const lost = points.length === 0 ? 'no recovery point was there' : `recovery points ${points.join(', ')} are lost`;
  const old = kept === undefined ? '' : `; the old image is kept as ${kept}, until somebody removes it`;
  return `it could not be mended and is made anew: the primary compares both sides, and sends what it holds; ${lost}${old}`;
}

export class Scrub {
  readonly #parts: ScrubParts;
  /** Another pass follows the one that is under way. */
  #again = false;

  constructor(parts: ScrubParts) {
    this.#parts = parts;
  }

  get state(): ScrubRecord {
    return this.#parts.record.value.scrub;
  }

  /** What a pass reads, bytes; holes of the disks count, too. */
  get size(): number {
    const { record, chain } = this.#parts;
    const disks = bytesOf(record.value.disks);
    return disks + chain.logs.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** How much of the pass under way is done, bytes. */
  get done(): number {
    const { pass } = this.state;
    if (pass === null) return 0;
    const { record, chain } = this.#parts;
    const disks = bytesOf(record.value.disks.slice(0, pass.disk));
    const logs = chain.logs.filter(({ follows }) => pass.undo !== null && follows.sequence <= pass.undo);
    return disks + pass.block * DIGEST_BLOCK + logs.reduce((sum, { bytes }) => sum + bytes, 0);
  }

  /** Begins a pass; one that is under way goes on, unless it is to be made anew. Not while a step is made. */
  async begin(now: number, anew = false): Promise<void> {
    if (this.state.pass !== null && !anew) return;
    await this.#note({ pass: beginning(now) });
  }

  /** The next portion of the pass under way. Failures: `busy` while logs wait, `wrong-state` while the disks are released. */
  async step(now: number, signal: AbortSignal): Promise<ScrubStep> {
    const { record, chain } = this.#parts;
    const { pass } = this.state;
    if (pass === null) return { bytes: 0, done: true };
    const disk = record.value.disks[pass.disk];
    if (disk !== undefined) return { bytes: await this.#disk(pass, disk, signal), done: false };
    const next = chain.logs.find(({ follows }) => pass.undo === null || follows.sequence > pass.undo);
    if (next !== undefined) {
      const bytes = await this.undo(next, signal);
      await this.#note({ pass: { ...pass, undo: next.follows.sequence } });
      return { bytes, done: false };
    }
    const bytes = await this.#received(signal);
    const again = this.#again;
    this.#again = false;
    await this.#note({ pass: again ? beginning(now) : null, last: { began: pass.began, ended: now } });
    return { bytes, done: !again };
  }

  async #disk(
    pass: NonNullable<ScrubRecord['pass']>,
    { target, size, gone }: ReplicatedDisk,
    signal: AbortSignal,
  ): Promise<number> {
    if (gone === true) {
      await this.#note({ pass: { ...pass, disk: pass.disk + 1, block: 0 } });
      return 0;
    }
    if (pass.block === 0) await this.#image(pass.disk, target);
    const blocks = blocksOf(size);
    const count = Math.min(STEP_BLOCKS, blocks - pass.block);
    const found = await this.#parts.questions.scrub(pass.disk, pass.block, count, signal);
    for (const block of found) {
      this.#parts.onDamage(
        `block ${block} of ${target} (64 KiB at ${block * DIGEST_BLOCK}) does not read as what was written: it is sent again by the primary`,
      );
    }
    const end = pass.block + count;
    const next = end < blocks ? { ...pass, block: end } : { ...pass, disk: pass.disk + 1, block: 0 };
    await this.#note({ pass: next, found: this.state.found + found.length });
    return count * DIGEST_BLOCK;
  }

  /** Before the first block is read: what is mended of an image may read otherwise. */
  async #image(disk: number, target: string): Promise<void> {
    const mended = await this.#parts.images.mend(disk);
    if (mended === undefined) return;
    const { corruptions, anew } = mended;
    await this.#note({ found: this.state.found + (corruptions ?? 1) });
    const what =
      corruptions === undefined
        ? `the image of ${target} can not be read any more`
        : `the image of ${target} was damaged in ${corruptions} places of what it keeps about itself`;
    this.#parts.onDamage(`${what}: ${anew === undefined ? MENDED : tellAnew(anew)}`);
  }

  /** QEMU has failed on a disk: images that it can't open, or won't write to, are mended at once. Gives whether there was one. */
  async look(): Promise<boolean> {
    const { record, images } = this.#parts;
    let mended = false;
    for (const [disk, { target }] of record.value.disks.entries()) {
      if (!(await images.isSuspect(disk))) continue;
      await this.#image(disk, target);
      mended = true;
    }
    // What is mended is read from the first block on, by a pass of its own where one is under way.
    if (mended && this.state.pass !== null) this.#again = true;
    else if (mended) await this.begin(Date.now());
    return mended;
  }

  /** Checks one undo log, and notes it where it is damaged. @returns its bytes. */
  async undo(log: UndoLog, signal?: AbortSignal): Promise<number> {
    const { chain, damage, lanes, onDamage } = this.#parts;
    const whole = await isWholeLog(lanes, log.path, signal).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return false; // retired, or merged, meanwhile; or somebody took it away
      throw error;
    });
    if (whole || !chain.logs.includes(log)) return log.bytes;
    const { sequence } = log.follows;
    const lost = await damage.foundUndo(sequence, `undo log ${sequence} does not check out`);
    if (lost === undefined) return log.bytes;
    await this.#note({ found: this.state.found + 1 });
    onDamage(
      `undo log ${log.path} is damaged: recovery points ${lost.join(', ')} can not be used any more; newer ones are whole`,
    );
    return log.bytes;
  }

  /** The first that doesn't check out is given up with all behind it: the primary is asked to compare. */
  async #received(signal: AbortSignal): Promise<number> {
    const { inbox, lanes, applier } = this.#parts;
    const waiting = inbox.waiting.slice(); // applied meanwhile, they go from the list
    let bytes = 0;
    for (const log of waiting) {
      bytes += log.bytes;
      const whole = await isWholeLog(lanes, log.path, signal).catch((error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return false; // applied meanwhile
        throw error;
      });
      if (whole) continue;
      await applier.giveUp(log);
      break;
    }
    return bytes;
  }

  async #note(change: Partial<ScrubRecord>): Promise<void> {
    await this.#parts.record.update(({ scrub }) => ({ scrub: { ...scrub, ...change } }));
  }
}
