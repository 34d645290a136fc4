/**
 * The primary's side of one relationship: what is stored of it, and the steps that move it on.
 *
 * Order that must never change (design, invariant 1): the log is durable and verified on the replica → it
 * acknowledges → the position is stored here → the old bitmap is dropped. Whatever stops us in between, `reconcile` asks
 * the replica where it stands: a log may be sent twice, never forgotten.
 */
import { randomBytes } from 'node:crypto';
import type { Log } from '../lib/log.ts';
import type { Clocks } from '../lib/clock.ts';
import type { Turns } from '../lib/turns.ts';
import { Wake } from '../lib/wake.ts';
import { crashPoint } from '../lib/crash-point.ts';
import { WRITER, type LogFooter, type LogHeader } from '../deltalog/header.ts';
import { BITMAP_PREFIX, type Hypervisor } from '../hypervisor/hypervisor.ts';
import type { Lanes } from '../lanes/lanes.ts';
import { Asking } from '../model/asking.ts';
import type { Compression } from '../model/compression.ts';
import { Failure, type FailureJson } from '../model/failure.ts';
import { provenNow, type Proven } from '../model/lag.ts';
import { PassClock } from '../model/pass-clock.ts';
import { learnSpeed, type Sent } from '../model/link-speed.ts';
import type { Position, RecoveryPoint } from '../model/relationship.ts';
import { compareLimitOf, readLimitOf, type ReadLimit } from '../model/read-limit.ts';
import { presentDisks, shapeOf } from '../model/shape.ts';
import { after } from '../model/state.ts';
import type { ReplicaEndpoint } from '../protocol/endpoint.ts';
import type { LogInFlight, RelationshipRecord, Severity, Statistics, Store } from '../store/store.ts';
import type { KnownBlocks } from './known-blocks.ts';
import type { PointLimits } from './open-point.ts';
import type { Outbox } from './outbox.ts';
import { Pace } from './pace.ts';
import type { SendProgress } from './send.ts';

export interface PrimaryServices extends Clocks {
  readonly hypervisor: Hypervisor;
  readonly endpoint: ReplicaEndpoint;
  readonly store: Store;
  readonly outbox: Outbox;
  readonly known: KnownBlocks;
  readonly lanes: Lanes;
  readonly log: Log;
  readonly compression: Compression;
  /** In so many seconds both sides are compared as a whole, along with cycles; 0: only when asked for. */
  readonly verifySeconds: number;
  /** Most bytes of data in one slice of a copy. */
  readonly sliceBytes: number;
  /** Bytes that a comparison reads a second at most, where the relationship has no limit of its own; 0: no limit. */
  readonly compareBytesPerSecond: number;
  /** Most bytes that one log may take in the outbox, as the room is now. */
  readonly outboxLimit: () => Promise<number>;
  readonly pointLimits: PointLimits;
  /** So many points are open at a time, over all VMs of the host. */
  readonly points: Turns;
  readonly event: (severity: Severity, kind: string, message: string) => void;
}

/** What is going on at this moment; not kept over a restart. */
export interface Activity {
  phase: 'waiting' | 'reading' | 'sending' | 'comparing';
  /** ms since the epoch, since when. */
  since: number;
  /** Bytes of the present log: written so far, and handed to the network. */
  logBytes: number;
  send: SendProgress;
}

/** Name of the bitmap of a relationship that begins at the instant of log `sequence`. */
export function bitmapName(relationship: string, epoch: number, sequence: number): string {
  return `${BITMAP_PREFIX}${relationship.slice(0, 8)}-${epoch}-${sequence}`;
}

export class Replication {
  readonly id: string;
  readonly services: PrimaryServices;
  /** Ends the sending that is under way, if any: it goes on after its cycle has failed for another reason. */
  #endSending: (() => void) | undefined;
  activity: Activity = { phase: 'waiting', since: 0, logBytes: 0, send: { sent: 0, resent: 0, breaks: 0 } };

  /** When the cycle that is next or under way was due, ms of the steady clock. */
  due = 0;

  /** Its VM is off and waits to start elsewhere: its points come before those of others. */
  urgent = false;

  /** An event has told that the hypervisor has lost the guest's agent. */
  agentLost = false;

  /** Over all that is read of the VM's disks, whatever for. */
  readonly pace = new Pace();

  /** When the VM's definition is looked at next, ms of the steady clock. */
  definitionDue = 0;

  /** Why the Replica server couldn't be told of it, as an event has said. */
  definitionFailure: string | undefined;

  /** Whether it asks before it sends (thin.ts). */
  readonly asking = new Asking();

  /** Since when passes of verification go, and are due. */
  readonly passClock = new PassClock();

  /** When a slice was read last to be compared, by the steady clock; undefined: not by this process. */
  slicedAt: number | undefined;

  /** The other side doesn't know how to compare (verify.ts). */
  verifiesNot = false;

  /** The log that was acknowledged last. */
  lastSent: Sent | undefined;

  /** Something that was waited for may be there: whoever waits to try again does it now. */
  readonly wake = new Wake();

  /** Of what the record is protected until: since when that is known. */
  proven: Proven | undefined;

  /** Part of the configured size that a slice of a copy has now: halved when one had to be given up. */
  slicePart = 1;

  constructor(id: string, services: PrimaryServices) {
    this.id = id;
    this.services = services;
  }

  get record(): RelationshipRecord {
    const record = this.services.store.relationship(this.id);
    if (record === undefined) throw new Failure('not-found', `replication relationship ${this.id} is gone`);
    return record;
  }

  update(change: Partial<RelationshipRecord>): RelationshipRecord {
    const record = { ...this.record, ...change };
    this.services.store.putRelationship(record);
    if (typeof change.protectedUntil === 'number') this.#noteProven(change.protectedUntil);
    return record;
  }

  #noteProven(instant: number): void {
    const { now, boot } = this.services;
    this.proven = provenNow({ instant, offset: undefined, now: now(), boot: boot() });
  }

  count(change: Partial<Statistics>): void {
    this.update({ statistics: { ...this.record.statistics, ...change } });
  }

  /** As it is set now. */
  get readLimit(): ReadLimit {
    return readLimitOf(this.record);
  }

  /** The same for a comparison of whole disks; a guest that waits to start elsewhere isn't disturbed by it. */
  get compareLimit(): ReadLimit {
    return this.urgent ? this.readLimit : compareLimitOf(this.record, this.services.compareBytesPerSecond);
  }

  /** What an acknowledged sending adds to the statistics. */
  sentBy({ sent, resent }: SendProgress): Pick<Statistics, 'sentBytes' | 'resentBytes' | 'linkSpeed'> {
    const { sentBytes, resentBytes, linkSpeed } = this.record.statistics;
    return {
      sentBytes: sentBytes + sent,
      resentBytes: resentBytes + resent,
      linkSpeed: this.lastSent === undefined ? linkSpeed : learnSpeed(linkSpeed, this.lastSent),
    };
  }

  enter(phase: Activity['phase']): void {
    this.activity = { ...this.activity, phase, since: this.services.now() };
  }

  /** Of the disks that are read. */
  targets(): string[] {
    return presentDisks(this.record.disks).map((disk) => disk.target);
  }

  /** What the names of this relationship's bitmaps begin with. */
  get bitmapPrefix(): string {
    return `${BITMAP_PREFIX}${this.id.slice(0, 8)}-`;
  }

  /** Name of the bitmap that begins at the instant of log `sequence`: unique per relationship, epoch and place. */
  bitmapName(sequence: number): string {
    return bitmapName(this.id, this.record.epoch, sequence);
  }

  /** Notes, before anything is begun, which log is next, so that a restart knows what to look for. */
  intend(intent: Pick<LogInFlight, 'nextBitmap' | 'copyAfter'>): LogInFlight {
    const inFlight: LogInFlight = {
      ...intent,
      sequence: this.record.position.sequence + 1,
      logId: randomBytes(16).toString('hex'),
      instant: 0,
      makes: null,
    };
    this.update({ inFlight });
    return inFlight;
  }

  header(inFlight: LogInFlight, point: RecoveryPoint | null): LogHeader {
    const { position, epoch, disks } = this.record;
    return {
      writer: WRITER,
      relationship: this.id,
      logId: inFlight.logId,
      direction: 'forward',
      disks: shapeOf(disks),
      follows: position,
      sequence: inFlight.sequence,
      epoch,
      point,
      created: this.services.now(),
    };
  }

  /** The log is whole: from now on it may have been acknowledged without our knowing. */
  completed(inFlight: LogInFlight, footer: LogFooter, instant: number): void {
    this.update({ inFlight: { ...inFlight, makes: footer.makes, instant } });
  }

  /**
   * The replica has the log: moves the position and counts it, and only then drops what is no longer needed. Called again after a
   * crash between the two, it does the rest.
   */
  async acknowledged(inFlight: LogInFlight, makes: Position, counted: Partial<Statistics>): Promise<void> {
    const { hypervisor, store, outbox, known } = this.services;
    const before = this.record;
    // A log that was under way when somebody asked for a comparison, or gave one up, brings back no bitmap and no copy.
    const counts = before.state !== 'WaitingForStartResynchronize';
    const closes = inFlight.nextBitmap !== null;
    store.putRelationship({
      ...before,
      position: makes,
      inFlight: null,
      failure: null,
      reshaped: false,
      copy: counts ? inFlight.copyAfter : null,
      bitmap: closes && counts ? inFlight.nextBitmap : before.bitmap,
      ...(closes ? { shortest: [], joining: [] } : {}),
      protectedUntil: closes ? inFlight.instant : before.protectedUntil,
      statistics: { ...before.statistics, ...counted },
      ...(closes && counts ? after(before, 'point-made') : {}),
    });
    if (closes) this.#noteProven(inFlight.instant);
    if (closes) this.#tellJoined(before);
    crashPoint('acknowledged:stored');
    await known.reached(makes);
    if (closes) {
      for (const done of [before.bitmap, before.copy?.since ?? null]) {
        if (done !== null) await hypervisor.dropBitmap(before.vmId, done);
      }
    }
    crashPoint('acknowledged:dropped');
    await outbox.clear();
  }

  #tellJoined({ joining = [], disks, vmName }: RelationshipRecord): void {
    const joined = joining.filter((one) => presentDisks(disks).some(({ target }) => target === one));
    if (joined.length === 0) return;
    const text = `disk ${joined.join(', ')} of ${vmName} is in the recovery points from now on`;
    this.services.event('info', 'disk-joined', text);
  }

  /** Gives up a log that the replica can't have acknowledged. The old bitmap has recorded everything meanwhile. */
  async discard(inFlight: LogInFlight): Promise<void> {
    const { hypervisor, outbox } = this.services;
    const { vmId } = this.record;
    await hypervisor.closePoint(vmId);
    if (inFlight.nextBitmap !== null) await hypervisor.dropBitmap(vmId, inFlight.nextBitmap);
    await outbox.clear();
    this.update({ inFlight: null });
  }

  /** What had been written is what the replica has: it isn't looked at again, from now on the next bitmap counts. */
  async unchanged(inFlight: LogInFlight): Promise<void> {
    const { hypervisor, outbox } = this.services;
    const { vmId, bitmap } = this.record;
    this.update({ bitmap: inFlight.nextBitmap, inFlight: null });
    crashPoint('cycle:unchanged');
    if (bitmap !== null) await hypervisor.dropBitmap(vmId, bitmap);
    await outbox.clear();
  }

  /** For one sending at a time: aborts when another takes its place, or `signal` does. */
  sendingSignal(signal: AbortSignal): AbortSignal {
    this.endSending();
    const sending = new AbortController();
    this.#endSending = () => sending.abort(new Failure('interrupted', 'the log is sent anew'));
    return AbortSignal.any([signal, sending.signal]);
  }

  endSending(): void {
    this.#endSending?.();
    this.#endSending = undefined;
  }

  trouble(failure: Failure | undefined): void {
    const before: FailureJson | null = this.record.failure;
    if (failure === undefined ? before === null : before?.code === failure.code && before.message === failure.message)
      return;
    this.update({ failure: failure?.toJSON() ?? null });
    const { event, log } = this.services;
    if (failure === undefined) {
      event('info', 'recovered', 'replication goes on');
    } else {
      log.warn({ relationship: this.id, code: failure.code, cause: failure.cause }, failure.message);
      event('warning', 'trouble', `${failure.message} (${failure.code})`);
    }
  }
}
