/** The replica of one host in the explored world: what `src/replica` does with a directory, on a JSON value. */
import type { BlockQuestion, LogName } from '../../src/protocol/endpoint.ts';
import { Failure } from '../../src/model/failure.ts';
import { samePosition, type Position, type RecoveryPoint } from '../../src/model/relationship.ts';
import { admit, admitName, describe, notFollowing } from '../../src/replica/admission.ts';
import type { NewReplica } from '../../src/replica/create.ts';
import type { LogHeader } from '../../src/deltalog/header.ts';
import type { Life } from './run.ts';
import { BLOCK, BLOCKS, contentOf, ID, VM_ID, type ReplicaWorld, type WorldLog } from './world.ts';

const DISK = { target: 'vda', size: 2 * BLOCK };

export class ModelReplica {
  readonly id = ID;
  readonly #life: Life;

  constructor(life: Life) {
    this.#life = life;
  }

  get #state(): ReplicaWorld {
    const { replica } = this.#life.here;
    if (replica === null) throw new Failure('interrupted', 'the replica is closed');
    return replica;
  }

  #update(words: string, change: Partial<ReplicaWorld>): void {
    this.#life.effect(`${words} (replica)`, true);
    this.#life.here.replica = { ...this.#state, ...change };
    this.#life.changed();
  }

  get record() {
    const { epoch, start, applied, latest, frozen } = this.#state;
    const common = { id: ID, vmId: VM_ID, vmName: 'vm', definition: 'xml', intervalSeconds: 30, history: 1 };
    return { ...common, disks: this.disks, epoch, start, applied, latest, frozen };
  }

  get disks() {
    return [{ ...DISK, path: this.#state.path }];
  }

  /** Nobody resizes disks here. */
  disksAt() {
    return this.disks;
  }

  get frozen(): boolean {
    return this.#state.frozen;
  }

  get waiting(): number {
    return this.#state.waiting.length;
  }

  get #received(): Position {
    return this.#state.waiting.at(-1)?.makes ?? this.#state.applied;
  }

  status() {
    const { epoch, applied } = this.#state;
    return { epoch, received: this.#received, applied };
  }

  /** Here there is room. */
  readonly room = { missing: async (): Promise<undefined> => undefined };

  /** Its disk isn't in there. */
  readonly directory = '/replica';

  points(): RecoveryPoint[] {
    const { latest, older } = this.#state;
    const points = older.map(({ point }) => point);
    return latest === null ? points : [latest, ...points.filter(({ sequence }) => sequence !== latest.sequence)];
  }

  #isLast(log: LogName): boolean {
    const last = this.#state.waiting.at(-1);
    const logId = last === undefined ? this.#state.appliedLog : last.logId;
    return log.sequence === this.#received.sequence && log.logId === logId;
  }

  async durableOffset(log: LogName): Promise<number> {
    return this.#isLast(log) ? 1 : 0;
  }

  async receive(log: LogName, _offset: number, body: AsyncIterable<Uint8Array>): Promise<void> {
    if (this.#isLast(log)) return;
    admitName(log, this.#received);
    let text = '';
    for await (const chunk of body) text += new TextDecoder().decode(chunk);
    const arrived = JSON.parse(text) as WorldLog;
    const header = { ...arrived, relationship: ID, direction: 'forward', disks: [DISK] } as unknown as LogHeader;
    admit(header, log, { relationship: ID, epoch: this.#state.epoch, received: this.#received, disks: [DISK] });
    this.#update(`receive log ${log.sequence}`, { waiting: [...this.#state.waiting, arrived] });
  }

  async confirm(position: Position): Promise<void> {
    const { epoch } = this.#state;
    const same = samePosition(position, this.#received);
    if (position.epoch < epoch && (!same || this.frozen)) throw new Failure('stale-epoch', describe(position));
    if (!same) throw notFollowing('other state', describe(position), this.#received);
  }

  /** Applies the log that waits first. */
  apply(): void {
    const { waiting, applied, latest, older, path } = this.#state;
    const [log, ...rest] = waiting;
    if (log === undefined) return;
    this.#life.effect(`apply log ${log.sequence}`);
    const { images, vm } = this.#life.here;
    const before = images[path]!;
    if (vm?.live === path)
      this.#life.run.violate(`${this.#life.host}: a log is applied to the disk that the VM runs on`);
    const after: [number, number] = [...before];
    for (const [block, value] of log.blocks) after[block] = value;
    images[path] = after;
    const expected = contentOf(log.makes);
    if (expected !== null && BLOCKS.some((block) => expected[block] !== after[block])) {
      const text = `point ${log.sequence} holds ${after.join(',')}; the primary had ${expected.join(',')} at that instant`;
      this.#life.run.violate(`${this.#life.host}: ${text}`);
    }
    this.#life.here.replica = {
      ...this.#state,
      waiting: rest,
      applied: log.makes,
      appliedLog: log.logId,
      latest: log.point,
      older: latest === null ? older : [{ point: latest, blocks: contentOf(applied) ?? before }],
    };
    this.#life.changed();
  }

  async drained(): Promise<void> {
    if (this.waiting > 0 && this.frozen) throw new Failure('wrong-state', 'received logs wait: the replica is frozen');
    while (this.waiting > 0) this.apply();
  }

  async raiseEpoch(epoch: number): Promise<void> {
    const now = this.#state.epoch;
    if (epoch < now) throw new Failure('stale-epoch', `epoch ${epoch} was asked for; the replica is at ${now}`);
    if (epoch > now) this.#update(`raise the epoch to ${epoch}`, { epoch });
  }

  async freeze(): Promise<void> {
    if (this.frozen) return;
    await this.drained();
    this.#update('freeze', { frozen: true });
  }

  async thaw(): Promise<void> {
    if (this.frozen) this.#update('thaw', { frozen: false });
  }

  requireSound(): void {
    this.#life.live();
  }

  async setSettings(): Promise<void> {
    this.#life.live();
  }

  async setSuspended(): Promise<void> {
    this.#life.live();
  }

  async rebase(start: Position): Promise<void> {
    const { applied, latest, epoch, waiting, older, path } = this.#state;
    if (waiting.length > 0) throw new Failure('busy', 'received logs are still being applied');
    const renamed =
      start.sequence === applied.sequence && (start.epoch > applied.epoch || samePosition(start, applied));
    if (!renamed && start.sequence <= applied.sequence) throw notFollowing('repeated', describe(start), applied);
    const bridge = !renamed && (latest !== null || older.length > 0);
    this.#update('count from another position', {
      start,
      applied: start,
      appliedLog: null,
      epoch: Math.max(epoch, start.epoch),
      latest: bridge ? null : latest,
      older: bridge && latest !== null ? [{ point: latest, blocks: this.#life.here.images[path]! }] : older,
    });
  }

  /** As the real one has it. */
  readonly questions = { digests: (question: BlockQuestion) => this.#digests(question) };

  async #digests({ from, count }: BlockQuestion): Promise<Uint8Array> {
    await this.drained();
    const blocks = this.#life.here.images[this.#state.path]!;
    const bytes = Buffer.alloc(16 * count);
    for (let index = 0; index < count; index++) bytes.writeUInt32BE(blocks[from + index]!, 16 * index);
    return bytes;
  }

  async materialise(sequence: number, overlays: ReadonlyMap<string, string>): Promise<void> {
    const { frozen, latest, older, path } = this.#state;
    if (!frozen) throw new Failure('wrong-state', 'a point is materialised on frozen disks only');
    const { images } = this.#life.here;
    const blocks =
      latest?.sequence === sequence ? images[path] : older.find(({ point }) => point.sequence === sequence)?.blocks;
    if (blocks === undefined) throw new Failure('not-found', `the replica keeps no recovery point ${sequence}`);
    this.#life.effect(`make the overlay of point ${sequence}`, true);
    images[overlays.get('vda')!] = [...blocks];
  }
}

export class ModelReplicas {
  readonly #life: Life;

  constructor(life: Life) {
    this.#life = life;
  }

  find(): ModelReplica | undefined {
    return this.#life.here.replica === null ? undefined : new ModelReplica(this.#life);
  }

  get(): ModelReplica {
    const found = this.find();
    if (found === undefined) throw new Failure('not-found', 'this host has no replica of the relationship');
    return found;
  }

  async create({ disks, epoch, position, latest = null }: NewReplica): Promise<ModelReplica> {
    if (this.find() !== undefined) throw new Failure('already-exists', 'a replica exists');
    const path = disks[0]!.path;
    if (path === undefined) throw new Failure('internal', 'an initial copy is not explored');
    this.#life.effect('make the replica', true);
    const fresh = { start: position, applied: position, appliedLog: null, frozen: false, waiting: [], older: [] };
    this.#life.here.replica = { ...fresh, epoch, latest, path };
    this.#life.changed();
    return this.get();
  }

  async remove(): Promise<void> {
    if (this.#life.here.replica === null) return;
    this.#life.effect('remove the replica, its disks stay', true);
    this.#life.here.replica = null;
    this.#life.changed();
  }
}
