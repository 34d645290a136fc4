/**
 * Whether a replica may take one more log: the disks have to keep pace with what is received, and what is received has to have room
 * for being applied. Receiving never takes the last room: a reserve of the file system stays free for undo logs, growing disks and records.
 */
import { pause } from '../lib/clock.ts';
import { bytesText } from '../lib/bytes-text.ts';
import type { Gate } from '../lib/gate.ts';
import { roomAt } from '../lib/room.ts';
import { Failure } from '../model/failure.ts';
import type { Applier } from './applier.ts';
import type { Inbox } from './inbox.ts';
import type { UndoChain } from './undo-chain.ts';

/** What is done about a file system without room. */
export interface RoomPolicy {
  /** Bytes that receiving leaves free; undefined: a twentieth of the file system, 1 GiB at most. */
  readonly reserveBytes: number | undefined;
  /** `oldest-points`: the oldest recovery points are given up, one after the other; never the latest state or one that somebody works with. */
  readonly whenFull: 'wait' | 'oldest-points';
}

export interface RoomParts {
  /** Of the replica. */
  readonly directory: string;
  readonly inbox: Inbox;
  readonly applier: Applier;
  readonly chain: UndoChain;
  readonly held: () => readonly number[];
  readonly standstill: Gate;
  readonly publishing: Gate;
  /** Undefined: room is waited for. */
  readonly policy: RoomPolicy | undefined;
  /** Told of a point that was given up for want of room. */
  readonly onGivenUp: (sequence: number) => void;
}

/** More logs than these waiting to be applied hold the primary up. */
const MAX_WAITING = 4;
/** For so long a sender is held up before it is told `busy`, ms. */
const PATIENCE_MS = 10_000;
/** What a received log needs besides, in times of its own bytes and those that its references make: its undo log, and the disks may grow. */
const NEEDED = 2;
const RESERVE_SHARE = 0.05;
const MOST_RESERVED = 2 ** 30;

/** Bytes of a file system that receiving leaves free. @param given see `RoomPolicy`. */
export function reserveOf(given: number | undefined, totalBytes: number): number {
  return given ?? Math.min(MOST_RESERVED, Math.floor(totalBytes * RESERVE_SHARE));
}

export class Room {
  readonly #parts: RoomParts;
  /** A log was refused, and none was taken since. */
  #refused = false;

  constructor(parts: RoomParts) {
    this.#parts = parts;
  }

  /**
   * Resolves when one more log may be received, with the bytes that have to stay free meanwhile. Failures: `no-space`, `busy` when
   * too many logs wait for too long, and why nothing is applied.
   */
  async forOneMore(signal?: AbortSignal): Promise<number> {
    await this.#keepPace(signal);
    for (;;) {
      const { missing, floor } = await this.#look();
      if (missing === 0) return floor;
      if (!(await this.make())) throw await this.met();
    }
  }

  /** A log was taken whole. */
  taken(): void {
    this.#refused = false;
  }

  /** There was no room. Gives the Failure for the primary: `busy` where some was made. */
  async met(cause?: Failure): Promise<Failure> {
    if (cause !== undefined && (await this.make())) {
      return new Failure('busy', 'older recovery points were given up to make room', { cause });
    }
    this.#refused = true;
    const { missing, free, floor } = await this.#look();
    const { directory } = this.#parts;
    const text =
      `${directory}: ${bytesText(missing)} more must be free: ${bytesText(free)} are, ` +
      `${bytesText(floor)} are kept for what has been received`;
    return new Failure('no-space', text, cause === undefined ? {} : { cause });
  }

  /** Failure `no-space` where so many bytes don't fit: disks that are about to come. Nothing is given up for them. */
  async require(bytes: number): Promise<void> {
    const { free, floor } = await this.#look();
    const missing = bytes + floor - free;
    if (missing <= 0) return;
    const text =
      `${this.#parts.directory}: ${bytesText(missing)} more must be free: ${bytesText(free)} are, ` +
      `${bytesText(bytes)} are about to come, and ${bytesText(floor)} are kept`;
    throw new Failure('no-space', text);
  }

  /** Bytes that are lacking since a log was refused; undefined where none was. */
  async missing(): Promise<number | undefined> {
    return this.#refused ? (await this.#look()).missing : undefined;
  }

  async #look(): Promise<{ missing: number; free: number; floor: number }> {
    const { directory, inbox, policy } = this.#parts;
    const { freeBytes: free, totalBytes } = await roomAt(directory);
    const reserve = reserveOf(policy?.reserveBytes, totalBytes);
    const floor = inbox.waiting.reduce(
      (sum, { bytes, referenceBytes }) => sum + NEEDED * (bytes + referenceBytes),
      reserve,
    );
    return { missing: Math.max(0, floor - free), free, floor };
  }

  /** Gives the oldest point up, where that is the policy. Says whether there was one. */
  async make(): Promise<boolean> {
    const { policy, inbox, chain, held, standstill, publishing, onGivenUp } = this.#parts;
    if (policy?.whenFull !== 'oldest-points') return false;
    return await standstill.run('making room', () =>
      publishing.run('making room', async () => {
        const sequences = chain.points.map(({ sequence }) => sequence);
        // The way back from a log that may be half applied stays.
        const oldest = sequences.length > (inbox.waiting.length > 0 ? 1 : 0) ? sequences.at(-1) : undefined;
        if (oldest === undefined || held().includes(oldest)) return false;
        await chain.keepOnly(new Set(sequences.slice(0, -1)));
        onGivenUp(oldest);
        return true;
      }),
    );
  }

  async #keepPace(signal?: AbortSignal): Promise<void> {
    const { inbox, applier } = this.#parts;
    const patience = AbortSignal.timeout(PATIENCE_MS);
    const stop = signal === undefined ? patience : AbortSignal.any([patience, signal]);
    while (inbox.waiting.length >= MAX_WAITING) {
      if (applier.failure !== null) throw applier.failure;
      if (patience.aborted) throw new Failure('busy', `${inbox.waiting.length} received logs aren't applied yet`);
      signal?.throwIfAborted();
      await pause(Infinity, [applier.progress], stop).catch(() => undefined); // seen at the head of the loop
    }
  }
}
