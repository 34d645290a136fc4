/**
 * Applies received logs, one after the other, in the background. The order is what makes a crash harmless:
 *
 * 1. the undo log, for all disks, whole and durable (one that is there already is never made again). None where no older point is
 *    to be kept and nobody looks at one: until 4 there is no point then, and nobody may look;
 * 2. published to every open view;
 * 3. the disks written and flushed, and what is known of their blocks with them: only now the new point exists;
 * 4. the record says so, durably; only then the received log goes, and older points beyond the kept ones.
 */
import { dirname } from 'node:path';
import { syncDirectory } from '../lib/atomic-file.ts';
import { crashPoint } from '../lib/crash-point.ts';
import { BackOff } from '../lib/back-off.ts';
import { sleep } from '../lib/clock.ts';
import type { Gate } from '../lib/gate.ts';
import type { Lanes } from '../lanes/lanes.ts';
import type { Log } from '../lib/log.ts';
import { Wake } from '../lib/wake.ts';
import { asFailure, Failure, type RetryClass } from '../model/failure.ts';
import { samePosition, type RecoveryPoint, type ReplicatedDisk } from '../model/relationship.ts';
import { presentDisks, sameShape } from '../model/shape.ts';
import type { LocalDisk } from '../store/store.ts';
import { applyLog, type LogToApply } from './apply-log.ts';
import type { Digests } from './digests.ts';
import type { DiskEngine } from './engine.ts';
import { pointsToKeep } from '../model/retention.ts';
import type { Inbox, ReceivedLog } from './inbox.ts';
import type { ReplicaLayout } from './layout.ts';
import type { Merger } from './merger.ts';
import type { RecordFile } from './record.ts';
import { readUndo, sameState, type UndoChain, type UndoLog } from './undo-chain.ts';
import { isWholeLog } from './check-log.ts';
import type { Damage } from './damage.ts';
import { tailsOf, type DiskShape } from './shape.ts';
import type { Views } from './views.ts';

export interface ApplierParts {
  readonly layout: ReplicaLayout;
  readonly record: RecordFile;
  readonly inbox: Inbox;
  readonly chain: UndoChain;
  readonly engine: DiskEngine;
  readonly lanes: Lanes;
  /** zstd level of undo logs. */
  readonly undoLevel: number;
  readonly digests: Digests;
  readonly shape: DiskShape;
  readonly damage: Damage;
  readonly views: Views;
  readonly merger: Merger;
  /** Held while a log is applied: whoever needs the disks to stand still takes it. */
  readonly standstill: Gate;
  /** Held while undo logs come and go: whoever opens a view takes it. */
  readonly publishing: Gate;
  /** The recovery point that a log makes, as it is to be recorded. */
  readonly pointOf: (received: ReceivedLog) => RecoveryPoint | null;
  readonly log: Log;
  /** Told each time that applying has failed (it is tried again by the failure's class), and null when it goes on. */
  readonly onFailure: (failure: Failure | null) => void;
  /** Told the disks when a log has made others of them. */
  readonly onReshaped: (disks: readonly LocalDisk[]) => void;
  /** Told of damage that was met, in words. */
  readonly onDamage: (text: string) => void;
  /** Looks whether images can't be opened any more, and mends them; gives whether there was one. */
  readonly look: () => Promise<boolean>;
}

const BACK_OFF: Record<Exclude<RetryClass, 'never'>, readonly [number, number]> = {
  backoff: [200, 10_000],
  space: [2000, 30_000],
};

export class Applier {
  readonly #parts: ApplierParts;
  #stop: AbortController | undefined;
  #loop: Promise<void> = Promise.resolve();
  #wake = Promise.withResolvers<void>();
  /** Called when one more log is applied, or something else has changed about applying. */
  readonly progress = new Wake();
  #failure: Failure | null = null;
  #torn = false;
  #suspect = false;

  constructor(parts: ApplierParts) {
    this.#parts = parts;
  }

  /** Why nothing is applied just now; null when all is well. */
  get failure(): Failure | null {
    return this.#failure;
  }

  /** Whether the disks are half written, with no undo log that leads back: what is on them is no point. */
  get torn(): boolean {
    return this.#torn && this.#parts.inbox.waiting.length > 0; // else it was given up
  }

  get running(): boolean {
    return this.#stop !== undefined;
  }

  /** Begins, or goes on after a failure that a person has to cure. */
  start(): void {
    if (this.#stop !== undefined) {
      this.wake();
      return;
    }
    const stop = new AbortController();
    this.#stop = stop;
    this.#loop = this.#run(stop.signal);
  }

  /** Resolves when the log that is being applied is done or has failed; the others wait for `start`. */
  async stop(): Promise<void> {
    this.#stop?.abort(new Failure('interrupted', 'applying was stopped'));
    this.wake();
    await this.#loop;
    this.#stop = undefined;
    this.progress.call();
  }

  /** A log has come. */
  wake(): void {
    this.#wake.resolve();
  }

  /** QEMU can't open the disks: it is looked into, also where nothing is to be applied. */
  suspect(): void {
    this.#suspect = true;
    this.wake();
  }

  async #run(signal: AbortSignal): Promise<void> {
    const { inbox, standstill } = this.#parts;
    const pauses = { backoff: new BackOff(...BACK_OFF.backoff), space: new BackOff(...BACK_OFF.space) };
    while (!signal.aborted) {
      this.#wake = Promise.withResolvers();
      if (this.#suspect) await this.#look();
      if (inbox.waiting.length === 0 && inbox.lost === undefined) {
        await this.#wake.promise;
        continue;
      }
      try {
        await standstill.run('applying', async () => {
          const [next] = inbox.waiting; // it may have been given up meanwhile
          if (inbox.lost !== undefined) await this.#takeBack(inbox.lost);
          else if (next !== undefined) await this.#apply(next);
        });
        pauses.backoff.reset();
        pauses.space.reset();
        this.#report(null);
      } catch (error) {
        const failure = asFailure(error, 'io');
        if (signal.aborted) break;
        this.#report(failure);
        if (failure.code === 'disk-engine' || failure.code === 'io') this.#suspect = true;
        if (failure.retry === 'never') await this.#wake.promise;
        else await sleep(pauses[failure.retry].next(), signal).catch(() => undefined); // stopped: the loop ends
      }
      this.progress.call();
    }
  }

  async #look(): Promise<void> {
    this.#suspect = false;
    try {
      if (await this.#parts.look()) this.#report(null);
    } catch (error) {
      this.#parts.log.error({ err: asFailure(error, 'io') }, 'the images of the replica could not be looked at');
    }
    this.progress.call();
  }

  #report(failure: Failure | null): void {
    const changed = failure !== null || this.#failure !== null;
    this.#failure = failure;
    if (failure !== null) this.#parts.log.error({ err: failure }, 'a received log could not be applied');
    if (changed) this.#parts.onFailure(failure);
  }

  async #apply(received: ReceivedLog): Promise<void> {
    const { record, inbox } = this.#parts;
    crashPoint('replica:apply');
    if (!samePosition(record.value.applied, received.makes)) {
      try {
        await this.#write(received);
      } catch (error) {
        // Damaged since it was received: what was written of it is taken back, and the primary is made to compare.
        if (!(error instanceof Failure) || error.code !== 'bad-log') throw error;
        if (await isWholeLog(this.#parts.lanes, received.path)) throw error;
        await inbox.giveUp(received, error.message, record.value);
        return await this.#takeBack(error.message);
      }
    }
    crashPoint('replica:recorded');
    await inbox.discardFirst();
    crashPoint('replica:discarded');
    await this.retire();
    await this.#dropGone();
  }

  /**
   * Empties the images of disks that are gone, once nobody can look at them any more. Only behind a log which says so: one of a disk that
   * comes back says what differs from what was there.
   */
  async #dropGone(): Promise<void> {
    const { record, chain, views, publishing, shape } = this.#parts;
    const isGone = ({ gone }: ReplicatedDisk): boolean => gone === true;
    if (!record.value.disks.some((disk) => isGone(disk) && disk.emptied !== true)) return;
    await publishing.run('dropping disks that are gone', async () => {
      const held = (i: number): boolean => chain.logs.some(({ disks: { [i]: disk } }) => disk && !isGone(disk));
      const left = record.value.disks.flatMap((disk, i) =>
        isGone(disk) && disk.emptied !== true && !held(i) ? [i] : [],
      );
      if (left.length > 0 && views.count === 0) await shape.empty(new Set(left));
    });
  }

  /** A received log was found damaged while it waits. */
  async giveUp(received: ReceivedLog): Promise<void> {
    const { inbox, record, standstill, lanes } = this.#parts;
    await standstill.run('giving a log up', async () => {
      if (!inbox.waiting.includes(received) || (await isWholeLog(lanes, received.path))) return;
      const why = `received log ${received.sequence} is damaged`;
      await inbox.giveUp(received, why, record.value);
      if (inbox.lost !== undefined) await this.#takeBack(why);
      else this.#parts.onDamage(`${why}: the primary compares both sides`);
    });
    this.progress.call();
  }

  /** What was written of a log that is lost goes back to what the disks held before; without a way back nobody knows what they hold. */
  async #takeBack(why: string): Promise<void> {
    const { record, chain, engine, digests, shape, lanes, inbox, publishing } = this.#parts;
    const { applied } = record.value;
    const newest = chain.logs.at(-1);
    await shape.restore();
    if (newest !== undefined && sameState(newest.makes, applied) && !sameState(newest.follows, applied)) {
      const { apply } = await engine.connections();
      const changed = await applyLog({ lanes, path: newest.path, disks: await engine.addresses(), undo: undefined });
      const ends = await Promise.allSettled([...apply.map((client) => client.flush()), digests.note(changed)]);
      for (const end of ends) if (end.status === 'rejected') throw end.reason;
      await digests.seal(changed);
      await publishing.run('taking a log back', () => chain.takeBack(newest));
    } else if (newest === undefined) {
      // It may have been written without an undo log. Where there are others, its own was not complete, and nothing was written.
      await digests.forget();
      await record.update({ latest: null });
    }
    this.#torn = false;
    crashPoint('replica:taken-back');
    await inbox.settled();
    this.#parts.onDamage(`${why}: what was written of it is taken back; the primary compares both sides`);
  }

  /** Gives up the points beyond those to be kept. Only while no log is half applied. */
  async retire(): Promise<void> {
    const { record, chain, publishing, merger } = this.#parts;
    await publishing.run('retiring points', async () => {
      const { history, thin, latest, held } = record.value;
      const older = chain.reachable.filter(({ sequence }) => sequence !== latest?.sequence);
      const kept = pointsToKeep(older, latest, { last: history, thin });
      await chain.keepOnly(new Set([...kept, ...held]));
    });
    if (!record.value.frozen) merger.wake(); // a failover has other things to do
  }

  async #write(received: ReceivedLog): Promise<void> {
    const { publishing, layout } = this.#parts;
    // Whoever wants to look behind this log, comes before it or after it.
    const written = await publishing.run('applying a log without a way back', async () => {
      if (!this.#isOneWay(received) || (await finalUndo(layout.undoLog(received.sequence))) !== undefined) return false;
      this.#torn = true;
      await this.#change(received, undefined);
      this.#torn = false;
      return true;
    });
    if (!written) await this.#change(received, await this.#undo(received));
  }

  /** Whether nobody will want to go back behind it. */
  #isOneWay({ point }: ReceivedLog): boolean {
    const { record, chain, views } = this.#parts;
    const { history, thin, held } = record.value;
    const none = history === 0 && thin.length === 0 && held.length === 0;
    return none && point !== null && chain.logs.length === 0 && views.count === 0;
  }

  async #change(received: ReceivedLog, undo: LogToApply['undo']): Promise<void> {
    const { record, engine, digests, lanes, shape } = this.#parts;
    const { makes, logId, bytes, path } = received;
    const before = record.value.disks;
    const disks = await shape.widen(received.disks);
    const tails = tailsOf(before, disks);
    const { apply } = await engine.connections();
    const damage = await this.#parts.damage.meet(received, apply);
    const changed = await applyLog({ lanes, path, disks: await engine.addresses(), undo, tails });
    for (const { disk } of tails) changed[disk] = []; // of blocks that are about to go
    const ends = await Promise.allSettled([...apply.map((client) => client.flush()), digests.note(changed)]);
    for (const end of ends) if (end.status === 'rejected') throw end.reason;
    await digests.seal(changed);
    await shape.cut(disks);
    crashPoint('replica:flushed');
    const latest = this.#parts.pointOf(received);
    const about = damage === undefined ? {} : { damage: damage.after(latest, disks) };
    await record.update({ applied: makes, appliedLog: { logId, bytes }, latest, disks, ...about });
    if (!sameShape(before, disks)) this.#parts.onReshaped(presentDisks(disks));
  }

  /** Whether there is any point to go back to: there is none during an initial copy onto empty disks. */
  #leadsBack(): boolean {
    return this.#parts.record.value.latest !== null || this.#parts.chain.points.length > 0;
  }

  /** The undo log that is to be made of a log; undefined where there is nothing to be made. */
  async #undo(received: ReceivedLog): Promise<LogToApply['undo']> {
    const { layout, record, chain, undoLevel } = this.#parts;
    if (!this.#leadsBack() || chain.leadingFrom(received.makes) !== undefined) return undefined;
    const { id, disks, applied, latest } = record.value;
    const path = layout.undoLog(received.sequence);
    const publish = (undo: UndoLog): Promise<void> => this.#publish(undo);
    // A final undo log is never made again: the disks may have been written since.
    const final = await finalUndo(path);
    if (final === undefined) {
      return {
        request: { path, relationship: id, disks, follows: received.makes, makes: applied, point: latest },
        level: undoLevel,
        publish,
      };
    }
    await publish(final);
    return undefined;
  }

  async #publish(undo: UndoLog): Promise<void> {
    const { chain, publishing, views } = this.#parts;
    await publishing.run('publishing an undo log', async () => {
      chain.add(undo);
      await views.publish(undo);
    });
    crashPoint('replica:published');
  }
}

async function finalUndo(path: string): Promise<UndoLog | undefined> {
  try {
    const undo = await readUndo(path);
    await syncDirectory(dirname(path));
    return undo;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    return undefined;
  }
}
