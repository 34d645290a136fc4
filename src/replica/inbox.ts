/**
 * The inbox: takes logs from the network, verifies them as they arrive and keeps them, durable, until they are applied.
 *
 * Acknowledged means: whole, verified, in the file, the file and its name on the disk. Only then `received` moves. At
 * most one log is under way; a second upload replaces the first, whose connection may be long dead.
 */
import { open, readdir, rename, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { land, newProgress, type Admit, type Landed, type Landing } from '../deltalog/landing.ts';
import { resume } from '../deltalog/part.ts';
import { LogReader } from '../deltalog/reader.ts';
import { syncDirectory } from '../lib/atomic-file.ts';
import { crashPoint } from '../lib/crash-point.ts';
import { asFailure, Failure } from '../model/failure.ts';
import { samePosition, type Position, type RecoveryPoint, type ReplicatedDisk } from '../model/relationship.ts';
import { isArrival } from '../protocol/arrival.ts';
import type { LogName } from '../protocol/endpoint.ts';
import { admit, admitName, describe, notFollowing, type Expected } from './admission.ts';
import { lostName, parseInboxName, parseLostName, type ReplicaLayout } from './layout.ts';

/** A log that is whole and durable, and waits to be applied. */
export interface ReceivedLog {
  readonly sequence: number;
  readonly logId: string;
  readonly path: string;
  readonly bytes: number;
  /** Of disk, that it makes of what it has for other places: they take room on the disks and in an undo log as well. */
  readonly referenceBytes: number;
  readonly follows: Position;
  readonly makes: Position;
  readonly point: RecoveryPoint | null;
  /** Disks of the state that it makes. */
  readonly disks: readonly ReplicatedDisk[];
}

/** Where the disks stand: what the first waiting log must follow. */
export interface AppliedState {
  readonly applied: Position;
  readonly appliedLog: { readonly logId: string; readonly bytes: number } | null;
}

/** What a log has to fit. */
export interface Admission {
  /** Asked again whenever it matters, since the epoch may be raised meanwhile. */
  readonly expected: () => Expected;
  /** Bytes of the file system that stay free. */
  readonly floor: number;
}

interface Upload {
  readonly abort: AbortController;
  readonly ended: Promise<void>;
}

/** How much of an unfinished log is good: known of the last one that was offered since the start. */
interface Unfinished {
  readonly path: string;
  readonly progress: Landing['progress'];
}

export class Inbox {
  readonly #layout: ReplicaLayout;
  readonly #waiting: ReceivedLog[];
  #last: { position: Position; logId: string | undefined; bytes: number };
  /** Why acknowledged logs are gone: what was begun to be applied of the first has to be taken back. */
  #lost: string | undefined;
  #upload: Upload | undefined;
  #unfinished: Unfinished | undefined;
  /** Where the last damaged frame was met: twice at the same place means that what was received is not to be trusted. */
  #damaged: { logId: string; at: number } | undefined;

  private constructor(layout: ReplicaLayout, state: AppliedState, waiting: ReceivedLog[], lost: string | undefined) {
    this.#layout = layout;
    this.#waiting = waiting;
    this.#lost = lost;
    this.#last = lastOf(waiting, state);
  }

  /**
   * Opens what is there: logs that are applied already go, the others must follow each other from `state.applied` on
   * (Failure `not-following` otherwise: somebody else's hand was in it), unfinished ones of another place go. One that is damaged goes,
   * too, with all behind it: see `lost`.
   */
  static async open(layout: ReplicaLayout, state: AppliedState): Promise<Inbox> {
    const names = (await readdir(layout.inbox)).toSorted();
    const waiting: ReceivedLog[] = [];
    /** The first that is damaged, and all behind it. */
    const gone: string[] = [];
    let at = state.applied;
    let lost = lostBefore(names);
    for (const name of names) {
      const path = join(layout.inbox, name);
      const parsed = parseInboxName(name);
      if (parseLostName(name) !== undefined) continue;
      if (parsed === undefined || (parsed.whole && parsed.sequence <= state.applied.sequence)) {
        await unlink(path);
      } else if (parsed.whole && gone.length > 0) {
        gone.push(path);
      } else if (parsed.whole) {
        const log = await describeLog(path).catch((error: unknown) => {
          if (error instanceof Failure && error.code === 'bad-log') return error;
          throw error;
        });
        if (log instanceof Failure) {
          lost = `received log ${parsed.sequence} is damaged: ${log.message}`;
          gone.push(path);
          continue;
        }
        if (!samePosition(log.follows, at)) {
          throw notFollowing('hole in the inbox', `${name} follows ${describe(log.follows)}`, at);
        }
        waiting.push(log);
        at = log.makes;
      }
    }
    for (const name of names) {
      const parsed = parseInboxName(name);
      if (parsed?.whole === false && parsed.sequence !== at.sequence + 1) await unlink(join(layout.inbox, name));
    }
    await letGo(layout.inbox, gone, waiting.length === 0);
    return new Inbox(layout, state, waiting, lost);
  }

  /** Position of the last acknowledged log. */
  get received(): Position {
    return this.#last.position;
  }

  /** Logs that wait to be applied, the next one first. */
  get waiting(): readonly ReceivedLog[] {
    return this.#waiting;
  }

  /** Why acknowledged logs were given up, until `settled`. */
  get lost(): string | undefined {
    return this.#lost;
  }

  /** Nothing is left of what was given up. */
  async settled(): Promise<void> {
    for (const name of await readdir(this.#layout.inbox)) {
      if (parseLostName(name) !== undefined) await unlink(join(this.#layout.inbox, name));
    }
    await syncDirectory(this.#layout.inbox);
    this.#lost = undefined;
  }

  /** An acknowledged log doesn't check out any more: it goes, with all behind it. The primary finds the replica further back, and compares. */
  async giveUp(from: ReceivedLog, why: string, state: AppliedState): Promise<void> {
    const first = this.#waiting.indexOf(from);
    if (first === -1) return;
    await this.interrupt(new Failure('not-following', `log ${from.sequence} was lost: ${why}`));
    if (first === 0) this.#lost = why;
    const gone = this.#waiting.splice(first);
    this.#last = lastOf(this.#waiting, state);
    this.#unfinished = undefined;
    const paths = gone.map(({ path }) => path);
    await letGo(this.#layout.inbox, paths, first === 0);
  }

  /** All acknowledged logs are given up, and counting goes on at a position that no log follows: the primary finds it, and compares. */
  async abandon(position: Position, why: string): Promise<void> {
    const last = { position, logId: undefined, bytes: 0 };
    this.#last = last; // from now on what arrives doesn't follow
    await this.interrupt(new Failure('not-following', why));
    this.#last = last; // the one that was arriving may have become whole
    this.#waiting.length = 0;
    this.#unfinished = undefined;
    this.#lost = undefined;
    for (const name of (await readdir(this.#layout.inbox)).toSorted().toReversed()) {
      await unlink(join(this.#layout.inbox, name)); // newest first: what a crash leaves is still a row of logs
      await syncDirectory(this.#layout.inbox);
    }
  }

  /** Bytes of a log that are durable and verified; 0 for an unknown one. */
  async durableOffset(log: LogName): Promise<number> {
    if (this.#isLast(log)) return this.#last.bytes;
    if (log.sequence !== this.received.sequence + 1) return 0;
    const path = this.#layout.part(log.sequence, log.logId);
    try {
      const known = this.#unfinished?.path === path ? Number(Atomics.load(this.#unfinished.progress, 0)) : -1;
      const length = known >= 0 ? known : (await resume(path)).accepted;
      await syncFile(path);
      await syncDirectory(this.#layout.inbox);
      return length;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      return this.#isLast(log) ? this.#last.bytes : 0; // it may have become whole meanwhile
    }
  }

  /** Receives a log from `offset` to its end. Resolves when the log is acknowledged. */
  async receive(
    log: LogName,
    offset: number,
    body: AsyncIterable<Uint8Array>,
    { expected, floor }: Admission,
    signal?: AbortSignal,
  ): Promise<void> {
    const before = this.#upload;
    const ended = Promise.withResolvers<void>();
    const upload: Upload = { abort: new AbortController(), ended: ended.promise };
    this.#upload = upload;
    before?.abort.abort(new Failure('interrupted', `log ${log.sequence}: a newer upload replaced this one`));
    const stop = signal === undefined ? upload.abort.signal : AbortSignal.any([upload.abort.signal, signal]);
    try {
      await before?.ended;
      stop.throwIfAborted();
      if (this.#isLast(log)) return;
      admitName(log, this.received);
      await this.#take(log, offset, body, { expected, floor }, stop);
    } catch (error) {
      if (signal?.aborted === true) throw new Failure('interrupted', `log ${log.sequence}: aborted`, { cause: error });
      throw asFailure(error, 'io');
    } finally {
      if (this.#upload === upload) this.#upload = undefined;
      ended.resolve();
    }
  }

  /** Ends the upload that is under way, if any, and waits for its end. */
  async interrupt(reason: Failure): Promise<void> {
    const upload = this.#upload;
    upload?.abort.abort(reason);
    await upload?.ended;
  }

  /** Takes the first waiting log out, once it is applied. */
  async discardFirst(): Promise<void> {
    const [first] = this.#waiting;
    if (first === undefined) throw new Failure('internal', 'no log waits');
    await unlink(first.path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
    await syncDirectory(this.#layout.inbox);
    this.#waiting.shift();
  }

  /** Counts from another position on. Only while nothing waits; what was half received goes. */
  async rebase(position: Position): Promise<void> {
    if (this.#waiting.length > 0) throw new Failure('busy', `${this.#waiting.length} received logs aren't applied yet`);
    this.#unfinished = undefined;
    for (const name of await readdir(this.#layout.inbox)) await unlink(join(this.#layout.inbox, name));
    await syncDirectory(this.#layout.inbox);
    this.#last = { position, logId: undefined, bytes: 0 };
  }

  #isLast(log: LogName): boolean {
    return log.sequence === this.received.sequence && log.logId === this.#last.logId;
  }

  async #take(
    log: LogName,
    offset: number,
    body: AsyncIterable<Uint8Array>,
    { expected, floor }: Admission,
    signal: AbortSignal,
  ): Promise<void> {
    await this.#discardOthers(log);
    const { sequence, logId } = log;
    const landing = { path: this.#layout.part(sequence, logId), sequence, offset, progress: newProgress(), floor };
    const check: Admit = (header) => admit(header, log, expected());
    this.#unfinished = landing;
    let landed: Landed;
    try {
      landed = isArrival(body)
        ? await body.land(landing, check, signal)
        : await land(landing, oneByOne(body), check, signal);
    } catch (error) {
      await this.#leave(landing, log, error);
      throw error;
    }
    await this.#acknowledge(landing.path, landed, log, expected());
  }

  /** What stays of a log whose upload failed: its good part, unless it will never become a log that we take. */
  async #leave({ path, progress }: Landing, log: LogName, error: unknown): Promise<void> {
    if (!(error instanceof Failure)) return;
    const good = Number(Atomics.load(progress, 0));
    const never = error.code === 'not-following' || error.code === 'stale-epoch';
    if (never || good === 0) {
      await this.#forget(path);
    } else if (error.code === 'bad-log') {
      const again = this.#damaged?.logId === log.logId && this.#damaged.at === good;
      this.#damaged = { logId: log.logId, at: good };
      if (again) await this.#forget(path);
    }
  }

  async #forget(path: string): Promise<void> {
    this.#unfinished = undefined;
    await unlink(path).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
  }

  async #acknowledge(part: string, landed: Landed, log: LogName, expected: Expected): Promise<void> {
    const { bytes, header, footer } = landed;
    try {
      admit(header, log, expected);
    } catch (error) {
      await this.#forget(part);
      throw error;
    }
    crashPoint('replica:received');
    const path = this.#layout.received(log.sequence, log.logId);
    await rename(part, path);
    await syncDirectory(this.#layout.inbox);
    crashPoint('replica:acknowledged');
    const { follows, point, disks } = header;
    const { makes } = footer;
    this.#waiting.push({ ...log, path, bytes, referenceBytes: footer.referenceBytes, follows, makes, point, disks });
    this.#last = { position: makes, logId: log.logId, bytes };
    this.#damaged = undefined;
    this.#unfinished = undefined;
  }

  /** Another try at the same place makes an earlier, unfinished one worthless. */
  async #discardOthers(log: LogName): Promise<void> {
    for (const name of await readdir(this.#layout.inbox)) {
      const parsed = parseInboxName(name);
      if (parsed?.whole === false && parsed.logId !== log.logId) await unlink(join(this.#layout.inbox, name));
    }
  }
}

/**
 * Logs go, newest first: what a crash or a power loss leaves is still a row of logs.
 * @param begun the first of them may have been begun to be applied: it is gone only when that has been taken back, so that a crash in
 * between doesn't hide it.
 */
async function letGo(inbox: string, [damaged, ...behind]: readonly string[], begun: boolean): Promise<void> {
  if (damaged === undefined) return await syncDirectory(inbox);
  for (const path of behind.toReversed()) {
    await unlink(path);
    await syncDirectory(inbox);
  }
  await (begun ? rename(damaged, lostName(damaged)) : unlink(damaged));
  await syncDirectory(inbox);
  crashPoint('replica:given-up');
}

/** Why logs are gone that were lost before, and not taken back until now. */
function lostBefore(names: readonly string[]): string | undefined {
  const sequence = names.map(parseLostName).find((one) => one !== undefined);
  return sequence === undefined ? undefined : `received log ${sequence} was damaged`;
}

function lastOf(waiting: readonly ReceivedLog[], { applied, appliedLog }: AppliedState) {
  const last = waiting.at(-1);
  return last === undefined
    ? { position: applied, logId: appliedLog?.logId, bytes: appliedLog?.bytes ?? 0 }
    : { position: last.makes, logId: last.logId, bytes: last.bytes };
}

async function* oneByOne(body: AsyncIterable<Uint8Array>): AsyncGenerator<readonly Uint8Array[]> {
  for await (const chunk of body) yield [chunk];
}

async function syncFile(path: string): Promise<void> {
  const file = await open(path, 'r');
  try {
    await file.datasync();
  } finally {
    await file.close();
  }
}

async function describeLog(path: string): Promise<ReceivedLog> {
  const reader = await LogReader.open(path);
  try {
    const { header, footer } = reader;
    const { sequence, logId, follows, point, disks } = header;
    const { makes, referenceBytes } = footer;
    return { sequence, logId, path, bytes: (await stat(path)).size, referenceBytes, follows, makes, point, disks };
  } finally {
    await reader.close();
  }
}
