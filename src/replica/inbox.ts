/**
 * The inbox: takes logs from the network, verifies them as they arrive and keeps them, durable, until they are applied.
 *
 * Acknowledged means: whole, verified, in the file, the file and its name on the disk. Only then `received` moves. At
 * most one log is under way; a second upload replaces the first, whose connection may be long dead.
 */
import { open, readdir, rename, stat, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import { LogReader } from '../deltalog/reader.ts';
import { syncDirectory } from '../lib/atomic-file.ts';
import { crashPoint } from '../lib/crash-point.ts';
import { asFailure, Failure } from '../model/failure.ts';
import { samePosition, type Position, type RecoveryPoint } from '../model/relationship.ts';
import type { LogName } from '../protocol/endpoint.ts';
import { admit, admitName, describe, notFollowing, type Expected } from './admission.ts';
import { abortable } from './abortable.ts';
import { parseInboxName, type ReplicaLayout } from './layout.ts';
import { Part, resume } from './part.ts';

/** A log that is whole and durable, and waits to be applied. */
export interface ReceivedLog {
  readonly sequence: number;
  readonly logId: string;
  readonly path: string;
  readonly bytes: number;
  readonly follows: Position;
  readonly makes: Position;
  readonly point: RecoveryPoint | null;
}

/** Where the disks stand: what the first waiting log must follow. */
export interface AppliedState {
  readonly applied: Position;
  readonly appliedLog: { readonly logId: string; readonly bytes: number } | null;
}

interface Upload {
  readonly abort: AbortController;
  readonly ended: Promise<void>;
  part: Part | undefined;
}

export class Inbox {
  readonly #layout: ReplicaLayout;
  readonly #waiting: ReceivedLog[];
  #last: { position: Position; logId: string | undefined; bytes: number };
  #upload: Upload | undefined;
  /** Where the last damaged frame was met: twice at the same place means that what was received is not to be trusted. */
  #damaged: { logId: string; at: number } | undefined;

  private constructor(layout: ReplicaLayout, state: AppliedState, waiting: ReceivedLog[]) {
    this.#layout = layout;
    this.#waiting = waiting;
    const last = waiting.at(-1);
    this.#last =
      last === undefined
        ? { position: state.applied, logId: state.appliedLog?.logId, bytes: state.appliedLog?.bytes ?? 0 }
        : { position: last.makes, logId: last.logId, bytes: last.bytes };
  }

  /**
   * Opens what is there: logs that are applied already go, the others must follow each other from `state.applied` on
   * (Failure `not-following` otherwise: somebody else's hand was in it), unfinished ones of another place go.
   */
  static async open(layout: ReplicaLayout, state: AppliedState): Promise<Inbox> {
    const names = (await readdir(layout.inbox)).toSorted();
    const waiting: ReceivedLog[] = [];
    let at = state.applied;
    for (const name of names) {
      const path = join(layout.inbox, name);
      const parsed = parseInboxName(name);
      if (parsed === undefined || (parsed.whole && parsed.sequence <= state.applied.sequence)) {
        await unlink(path);
      } else if (parsed.whole) {
        const log = await describeLog(path);
        if (!samePosition(log.follows, at)) {
          throw notFollowing('inbox', `${name} follows ${describe(log.follows)}`, at);
        }
        waiting.push(log);
        at = log.makes;
      }
    }
    for (const name of names) {
      const parsed = parseInboxName(name);
      if (parsed?.whole === false && parsed.sequence !== at.sequence + 1) await unlink(join(layout.inbox, name));
    }
    await syncDirectory(layout.inbox);
    return new Inbox(layout, state, waiting);
  }

  /** Position of the last acknowledged log. */
  get received(): Position {
    return this.#last.position;
  }

  /** Logs that wait to be applied, the next one first. */
  get waiting(): readonly ReceivedLog[] {
    return this.#waiting;
  }

  /** Bytes of a log that are durable and verified; 0 for an unknown one. */
  async durableOffset(log: LogName): Promise<number> {
    if (this.#isLast(log)) return this.#last.bytes;
    if (log.sequence !== this.received.sequence + 1) return 0;
    const path = this.#layout.part(log.sequence, log.logId);
    try {
      const current = this.#upload?.part;
      const length = current?.path === path ? current.length : (await resume(path)).accepted;
      await syncFile(path);
      await syncDirectory(this.#layout.inbox);
      return length;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
      return this.#isLast(log) ? this.#last.bytes : 0; // it may have become whole meanwhile
    }
  }

  /**
   * Receives a log from `offset` to its end. `expected` is asked again whenever it matters, since the epoch may be raised
   * meanwhile. Resolves when the log is acknowledged.
   */
  async receive(
    log: LogName,
    offset: number,
    body: AsyncIterable<Uint8Array>,
    expected: () => Expected,
    signal?: AbortSignal,
  ): Promise<void> {
    const before = this.#upload;
    const ended = Promise.withResolvers<void>();
    const upload: Upload = { abort: new AbortController(), ended: ended.promise, part: undefined };
    this.#upload = upload;
    before?.abort.abort(new Failure('interrupted', `log ${log.sequence}: a newer upload replaced this one`));
    const stop = signal === undefined ? upload.abort.signal : AbortSignal.any([upload.abort.signal, signal]);
    try {
      await before?.ended;
      stop.throwIfAborted();
      if (this.#isLast(log)) return;
      admitName(log, this.received);
      await this.#take(upload, log, offset, abortable(body, stop), expected);
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
    for (const name of await readdir(this.#layout.inbox)) await unlink(join(this.#layout.inbox, name));
    await syncDirectory(this.#layout.inbox);
    this.#last = { position, logId: undefined, bytes: 0 };
  }

  #isLast(log: LogName): boolean {
    return log.sequence === this.received.sequence && log.logId === this.#last.logId;
  }

  async #take(
    upload: Upload,
    log: LogName,
    offset: number,
    body: AsyncIterable<Uint8Array>,
    expected: () => Expected,
  ): Promise<void> {
    await this.#discardOthers(log);
    const part = await Part.open(this.#layout.part(log.sequence, log.logId));
    upload.part = part;
    try {
      if (part.header !== undefined) admit(part.header, log, expected());
      if (offset > part.length) {
        throw new Failure(
          'interrupted',
          `log ${log.sequence} was sent from byte ${offset}; the replica has ${part.length}`,
        );
      }
      await this.#fill(part, log, part.length - offset, body, expected);
      await part.sync();
    } catch (error) {
      await this.#leave(part, log, error);
      throw error;
    } finally {
      upload.part = undefined;
      await part.close();
    }
    await this.#acknowledge(part, log, expected());
  }

  /** Writes what arrives, frame by frame. The first `skip` bytes are there already. */
  async #fill(
    part: Part,
    log: LogName,
    skip: number,
    body: AsyncIterable<Uint8Array>,
    expected: () => Expected,
  ): Promise<void> {
    let known = skip;
    let admitted = part.header !== undefined;
    if (part.parser.complete) return;
    for await (const chunk of body) {
      const ignored = Math.min(known, chunk.length);
      known -= ignored;
      if (ignored === chunk.length) continue;
      const fresh = Buffer.from(chunk.buffer, chunk.byteOffset + ignored, chunk.length - ignored);
      const whole = part.verify(fresh);
      if (!admitted && part.header !== undefined) {
        admit(part.header, log, expected());
        admitted = true;
      }
      await part.write(whole);
      if (part.parser.complete) return;
    }
    throw new Failure('interrupted', `log ${log.sequence} ended after ${part.length} bytes, before its end`);
  }

  /** What stays of a log whose upload failed: its good part, unless it will never become a log that we take. */
  async #leave(part: Part, log: LogName, error: unknown): Promise<void> {
    if (!(error instanceof Failure)) return;
    const never = error.code === 'not-following' || error.code === 'stale-epoch';
    if (never || part.length === 0) {
      await unlink(part.path);
    } else if (error.code === 'bad-log') {
      const again = this.#damaged?.logId === log.logId && this.#damaged.at === part.length;
      this.#damaged = { logId: log.logId, at: part.length };
      if (again) await unlink(part.path);
    }
  }

  async #acknowledge(part: Part, log: LogName, expected: Expected): Promise<void> {
    const { header, footer } = part.parser;
    if (header === undefined || footer === undefined) throw new Failure('internal', 'a whole log has both its ends');
    try {
      admit(header, log, expected);
    } catch (error) {
      await unlink(part.path);
      throw error;
    }
    crashPoint('replica:received');
    const path = this.#layout.received(log.sequence, log.logId);
    await rename(part.path, path);
    await syncDirectory(this.#layout.inbox);
    crashPoint('replica:acknowledged');
    const { follows, point } = header;
    const { makes } = footer;
    this.#waiting.push({ ...log, path, bytes: part.length, follows, makes, point });
    this.#last = { position: makes, logId: log.logId, bytes: part.length };
    this.#damaged = undefined;
  }

  /** Another try at the same place makes an earlier, unfinished one worthless. */
  async #discardOthers(log: LogName): Promise<void> {
    for (const name of await readdir(this.#layout.inbox)) {
      const parsed = parseInboxName(name);
      if (parsed?.whole === false && parsed.logId !== log.logId) await unlink(join(this.#layout.inbox, name));
    }
  }
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
    const { sequence, logId, follows, point } = header;
    return { sequence, logId, path, bytes: (await stat(path)).size, follows, makes: footer.makes, point };
  } finally {
    await reader.close();
  }
}
