/**
 * The replica of one VM: receives logs, applies them to its flat disks, keeps the way back to older recovery points, and
 * shows any of them. Everything that it knows lies in its directory (layout.ts); the orders that keep it whole through any
 * crash are in inbox.ts and applier.ts.
 */
import { chmod, mkdir, rm } from 'node:fs/promises';
import type { Gate } from '../lib/gate.ts';
import { Failure } from '../model/failure.ts';
import type { Position, RecoveryPoint } from '../model/relationship.ts';
import { presentDisks, shapeOf } from '../model/shape.ts';
import type { DiskExtent, LogName } from '../protocol/endpoint.ts';
import type { LocalDisk } from '../store/store.ts';
import { pause } from '../lib/clock.ts';
import type { Applier } from './applier.ts';
import { assemble } from './assemble.ts';
import { atRest } from './at-rest.ts';
import type { Damage, Unsound } from './damage.ts';
import { Confirmations } from './confirmations.ts';
import { createReplica, removeReplica, type NewReplica } from './create.ts';
import type { Digests } from './digests.ts';
import type { DiskEngine } from './engine.ts';
import { HeldPoints } from './held-points.ts';
import { Inbox } from './inbox.ts';
import { ReplicaLayout } from './layout.ts';
import { withoutPoints } from './lost-points.ts';
import { materialise } from './materialise.ts';
import type { Merger } from './merger.ts';
import type { Questions } from './questions.ts';
import { RecordFile, type ReplicaRecord } from './record.ts';
import { rebase } from './rebase.ts';
import type { Room } from './room.ts';
import type { ReplicaOptions } from './options.ts';
import type { Scrub } from './scrub.ts';
import { UndoChain } from './undo-chain.ts';
import type { SocketOwner, View, Views } from './views.ts';

export type ReplicaSettings = Pick<
  ReplicaRecord,
  | 'vmName'
  | 'definition'
  | 'received'
  | 'definitionPolicy'
  | 'intervalSeconds'
  | 'history'
  | 'thin'
  | 'leaseSeconds'
  | 'autoResync'
  | 'peer'
>;

export class Replica {
  readonly directory: string;
  readonly #options: ReplicaOptions;
  readonly #layout: ReplicaLayout;
  readonly #record: RecordFile;
  readonly #inbox: Inbox;
  readonly #chain: UndoChain;
  readonly #engine: DiskEngine;
  readonly #digests: Digests;
  readonly #views: Views;
  readonly #merger: Merger;
  readonly #applier: Applier;
  readonly #standstill: Gate;
  readonly #publishing: Gate;
  readonly #confirmations: Confirmations;
  readonly #damage: Damage;
  readonly room: Room;
  readonly held: HeldPoints;
  /** What a primary may ask about the disks. */
  readonly questions: Questions;
  readonly scrub: Scrub;
  #closed = false;
  /** False while a log that was half applied at the last crash isn't done again. */
  #whole: boolean;

  private constructor(options: ReplicaOptions, record: RecordFile, inbox: Inbox, chain: UndoChain) {
    this.directory = options.directory;
    this.#options = options;
    this.#record = record;
    this.#inbox = inbox;
    this.#chain = chain;
    this.#confirmations = new Confirmations(record, inbox);
    const parts = assemble(options, {
      record,
      inbox,
      chain,
      confirmations: this.#confirmations,
      atRest: (read) => atRest(this, this.#standstill, read),
    });
    this.#layout = parts.layout;
    this.#engine = parts.engine;
    this.#digests = parts.digests;
    this.#damage = parts.damage;
    this.questions = parts.questions;
    this.#views = parts.views;
    this.#merger = parts.merger;
    this.#applier = parts.applier;
    this.room = parts.room;
    this.scrub = parts.scrub;
    this.#standstill = parts.standstill;
    this.#publishing = parts.publishing;
    const retire = async (): Promise<void> => (this.waiting > 0 || this.frozen ? undefined : this.#applier.retire());
    this.held = new HeldPoints(record, this.#publishing, this.#standstill, () => this.points(), retire);
    this.#whole = inbox.waiting.length === 0 && inbox.lost === undefined;
  }

  /** Makes a new replica and opens it. Failures as of `createReplica`. */
  static async create(options: ReplicaOptions, replica: NewReplica): Promise<Replica> {
    await createReplica(options.directory, replica);
    return await Replica.open(options);
  }

  /** Opens what is in its directory. Failures: `format-unknown`; `io` when files are missing or damaged. */
  static async open(options: ReplicaOptions): Promise<Replica> {
    const layout = new ReplicaLayout(options.directory);
    const record = await RecordFile.open(options.directory);
    await layout.make();
    await mkdir(options.runDirectory, { recursive: true });
    await chmod(options.runDirectory, 0o711); // QEMU's user passes through to the sockets of views
    const inbox = await Inbox.open(layout, record.value);
    const pending = inbox.lost === undefined ? inbox.waiting[0]?.makes : 'lost';
    const chain = await UndoChain.open(layout, record.value.applied, pending);
    if (chain.lost.length > 0) options.onDamage?.(await withoutPoints(record, chain));
    const replica = new Replica(options, record, inbox, chain);
    await replica.#views.close(); // of the process before
    if (replica.waiting === 0 && inbox.lost === undefined) await replica.#applier.retire(); // a crash may have come between
    if (!replica.frozen) await replica.#begin();
    return replica;
  }

  get id(): string {
    return this.#record.value.id;
  }

  /** What is in its record: settings, disks, definition, where it stands. */
  get record(): Readonly<ReplicaRecord> {
    return this.#record.value;
  }

  /** Of the latest state. */
  get disks(): readonly LocalDisk[] {
    return presentDisks(this.#record.value.disks);
  }

  /** The disks that a recovery point has, with their sizes then, and the images that hold them now. */
  disksAt(sequence: number): LocalDisk[] {
    return presentDisks(this.#shapeAt(sequence));
  }

  /** Why received logs can't be applied just now; null when all is well. */
  get failure(): Failure | null {
    return this.#applier.failure;
  }

  get frozen(): boolean {
    return this.#record.value.frozen;
  }

  /** Received logs that wait to be applied. */
  get waiting(): number {
    return this.#inbox.waiting.length;
  }

  status(): { epoch: number; received: Position; applied: Position; damage?: readonly DiskExtent[] } {
    const { epoch, applied } = this.#record.value;
    const damage = this.#damage.open;
    return { epoch, received: this.#inbox.received, applied, ...(damage.length === 0 ? {} : { damage }) };
  }

  /** Recovery points that aren't whole, by sequence. */
  get unsound(): ReadonlyMap<number, Unsound> {
    return this.#damage.unsound;
  }

  /** Failure `point-damaged` for one of these. @param anyway it is taken as it is, where it can be read. */
  requireSound(sequence: number, anyway = false): void {
    this.#damage.requireSound(sequence, anyway);
  }

  /** Recovery points that can be failed over to, newest first. The latest one is on the disks, without undo logs. */
  points(): RecoveryPoint[] {
    const { latest } = this.#record.value;
    const older = this.#chain.points;
    return latest === null ? older : [latest, ...older.filter(({ sequence }) => sequence !== latest.sequence)];
  }

  // --- receiving ---

  async durableOffset(log: LogName): Promise<number> {
    return await this.#inbox.durableOffset(log);
  }

  /** See `ReplicaEndpoint.put`. */
  async receive(log: LogName, offset: number, body: AsyncIterable<Uint8Array>, signal?: AbortSignal): Promise<void> {
    if (this.#closed) throw new Failure('interrupted', 'the replica is being closed');
    const floor = await this.room.forOneMore(signal);
    const expected = () => {
      const { id, epoch } = this.#record.value;
      const disks = this.#inbox.waiting.at(-1)?.disks ?? this.#record.value.disks;
      return { relationship: id, epoch, received: this.#inbox.received, disks };
    };
    try {
      await this.#inbox.receive(log, offset, body, { expected, floor }, signal);
    } catch (error) {
      throw error instanceof Failure && error.code === 'no-space' ? await this.room.met(error) : error;
    }
    this.room.taken();
    this.#applier.wake();
  }

  /** The primary saw at `instant` (ms, its clock) that nothing had changed since `position`. */
  async confirm(position: Position, instant: number): Promise<void> {
    await this.#confirmations.take(position, instant);
  }

  /** Resolves when everything received is applied. Throws the failure that only a person can cure. */
  async drained(signal?: AbortSignal): Promise<void> {
    while (this.#inbox.waiting.length > 0 || this.#inbox.lost !== undefined) {
      const failure = this.#applier.failure;
      if (failure?.retry === 'never') throw failure;
      if (!this.#applier.running)
        throw new Failure('wrong-state', 'received logs wait: the replica is frozen or closed');
      signal?.throwIfAborted();
      await pause(Infinity, [this.#applier.progress], signal);
    }
  }

  // --- roles ---

  /** From now on logs of a lower epoch are refused; one that is arriving is broken off. Durable. */
  async raiseEpoch(epoch: number): Promise<void> {
    const now = this.#record.value.epoch;
    if (epoch < now) throw new Failure('stale-epoch', `epoch ${epoch} was asked for; the replica is at ${now}`);
    if (epoch === now) return;
    await this.#record.update({ epoch });
    await this.#inbox.interrupt(new Failure('stale-epoch', `the replica is at epoch ${epoch} now`));
  }

  /**
   * Applies what has been received, then lets go of the disks: nobody has them open any more, and open views fail. What
   * arrives meanwhile waits in the inbox; raise the epoch first if nothing may. It stays so over restarts, until `thaw`.
   */
  async freeze(): Promise<void> {
    if (!this.frozen) {
      await this.drained();
      await this.#applier.stop();
      await this.#merger.stop();
      await this.#record.update({ frozen: true });
    }
    await this.#letGo(); // also when a crash came between
  }

  /** Takes the disks again and goes on. They must hold what they held at `freeze`. */
  async thaw(): Promise<void> {
    if (!this.frozen) return;
    await this.#record.update({ frozen: false });
    this.#engine.allow();
    await this.#begin();
  }

  /** Whether the administrator of this host has paused replication, for who finds the replica without the store. */
  async setSuspended(suspended: boolean): Promise<void> {
    if (this.record.suspended !== suspended) await this.#record.update({ suspended });
  }

  async setSettings(settings: Partial<ReplicaSettings>): Promise<void> {
    await this.#standstill.run('changing settings', async () => {
      await this.#record.update(settings);
      if (this.waiting === 0) await this.#applier.retire();
    });
  }

  /**
   * Counts on from another position, with the disks as they are: `start` names the state that they hold now. Older points
   * stay. Failures: `not-following` for a position before the present one, `busy` while logs wait.
   */
  async rebase(start: Position): Promise<void> {
    await this.#standstill.run('counting from another position', () =>
      rebase(start, {
        record: this.#record,
        inbox: this.#inbox,
        chain: this.#chain,
        layout: this.#layout,
        views: this.#views,
        publishing: this.#publishing,
      }),
    );
  }

  /** Gives all older points up; the latest state stays. */
  async forgetPoints(): Promise<void> {
    await this.#standstill.run('forgetting points', () =>
      this.#publishing.run('forgetting points', () => this.#chain.keepOnly(new Set())),
    );
  }

  // --- reading ---

  /**
   * Serves the recovery point of that sequence read-only by NBD while replication goes on. Any number at once; points that
   * are retired meanwhile stay readable. Its socket belongs to `owner` (this user if left out). Failures: `not-found`,
   * `wrong-state` while frozen, `point-damaged` unless it is taken as it is (`damaged`).
   */
  async openView(sequence: number, owner?: SocketOwner, damaged = false): Promise<View> {
    if (this.frozen || this.#closed)
      throw new Failure('wrong-state', 'the replica is frozen for a failover, or closed');
    // After a crash the log that was being applied comes first: until then the latest point isn't whole.
    if (!this.#whole) await this.drained();
    this.#whole = true;
    return await this.#publishing.run(`opening a view of ${sequence}`, async () => {
      const point = this.#point(sequence);
      this.requireSound(sequence, damaged);
      if (this.#applier.torn) throw this.failure ?? new Failure('busy', 'a received log is still being applied');
      return await this.#views.open(point.sequence, this.#shapeAt(sequence), this.#chain.backTo(sequence), owner);
    });
  }

  /** Resolves when nothing is being merged. */
  async merged(): Promise<void> {
    await this.#merger.idle();
  }

  get openViews(): number {
    return this.#views.count;
  }

  /**
   * Makes overlays on the flat disks that hold a recovery point (none of its blocks where it is the latest one). Only while
   * frozen: first `freeze`, then this, then whoever uses the overlays, and `thaw` when those are gone. Failure `point-damaged` unless
   * it is taken as it is (`damaged`).
   */
  async materialise(sequence: number, overlays: ReadonlyMap<string, string>, damaged = false): Promise<void> {
    if (!this.frozen) throw new Failure('wrong-state', 'a point is materialised on frozen disks only');
    const point = this.#point(sequence);
    this.requireSound(sequence, damaged);
    const { runDirectory, log } = this.#options;
    await this.#publishing.run(`materialising ${sequence}`, async () => {
      const logs = this.#chain.backTo(point.sequence);
      try {
        await materialise({ disks: this.#shapeAt(sequence), overlays, logs, runDirectory, log });
      } catch (error) {
        if (!(error instanceof Failure) || error.code !== 'bad-log') throw error;
        for (const one of logs) await this.scrub.undo(one);
        this.requireSound(sequence, damaged);
        throw error;
      }
    });
  }

  /** Process id of the storage daemon, while one runs: for tests that kill it. */
  async enginePid(): Promise<number | undefined> {
    return await this.#engine.pid();
  }

  /** Ends what is under way; everything is durable. */
  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await this.#inbox.interrupt(new Failure('interrupted', 'the replica is being closed'));
    await this.#applier.stop();
    await this.#merger.stop();
    await this.#views.close();
    await this.#letGo();
    await this.#record.update({});
  }

  /** Closes it and removes it; see `removeReplica` for what stays. */
  async remove(options: { keepDisks: boolean }): Promise<void> {
    await this.close();
    await removeReplica(this.directory, options);
    await rm(this.#options.runDirectory, { recursive: true, force: true });
  }

  /** Nobody has the disks open afterwards: who reads one is broken off, who mends an image comes to his end. */
  async #letGo(): Promise<void> {
    await this.#engine.stop();
    await this.#standstill.run('releasing the disks', () => this.#digests.close());
  }

  async #begin(): Promise<void> {
    await this.#digests.open();
    this.#applier.start();
  }

  /** By the places that logs count by: those that are gone then, too. */
  #shapeAt(sequence: number): LocalDisk[] {
    const { disks } = this.#record.value;
    const shape = shapeOf(this.#chain.backTo(sequence)[0]?.disks ?? disks);
    return shape.map((disk, i) => ({ ...disk, path: disks[i]!.path }));
  }

  #point(sequence: number): RecoveryPoint {
    const point = this.points().find((one) => one.sequence === sequence);
    if (point === undefined) throw new Failure('not-found', `the replica keeps no recovery point ${sequence}`);
    return point;
  }
}
