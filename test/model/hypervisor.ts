/** The VM of one host, as libvirt shows it, in the explored world. */
import type {
  AdaptRequest,
  BitmapStatus,
  DefineRequest,
  Hypervisor,
  OpenPointRequest,
  Point,
  Vm,
} from '../../src/hypervisor/hypervisor.ts';
import { heldUntil, needsLease } from '../../src/model/lease.ts';
import { Failure } from '../../src/model/failure.ts';
import type { Life } from './run.ts';
import { BLOCK, BLOCKS, contentOf, other, VM_ID, type Blocks, type VmWorld } from './world.ts';

/** A point with what the disk held at its instant, and which blocks count as changed. */
export interface ModelPoint extends Point {
  readonly blocks: Blocks;
  readonly dirty: readonly [boolean, boolean];
}

export class ModelHypervisor implements Hypervisor {
  readonly #life: Life;

  constructor(life: Life) {
    this.#life = life;
  }

  get #vm(): VmWorld {
    const { vm } = this.#life.here;
    if (vm === null) throw new Failure('not-found', 'no such VM');
    return vm;
  }

  /** One change of this host's VM. */
  #effect(words: string, change: () => void): void {
    this.#life.effect(words, true);
    change();
    this.#life.changed();
  }

  async vmUser() {
    return undefined;
  }

  async versions() {
    return {};
  }

  async listVms(): Promise<Vm[]> {
    return this.#life.here.vm === null ? [] : [await this.getVm()];
  }

  async getVm(): Promise<Vm> {
    this.#life.live();
    const { state, live, defined } = this.#vm;
    const disk = { target: 'vda', path: live ?? defined, format: 'qcow2', size: 2 * BLOCK };
    return { id: VM_ID, name: 'vm', state, pausedByIoError: false, autostart: false, disks: [disk], besidesDisks: [] };
  }

  async vmStatus() {
    const { state, autostart, pausedByIoError } = await this.getVm();
    return { id: VM_ID, name: 'vm', state, autostart, pausedByIoError };
  }

  async inspect() {
    return { foreignCheckpoints: [], foreignBitmaps: [] };
  }

  async startBitmap(_vmId: string, _targets: readonly string[], name: string): Promise<void> {
    const { bitmaps } = this.#life.here;
    if (bitmaps.some((bitmap) => bitmap.name === name)) return;
    const path = this.#vm.live ?? this.#vm.defined;
    this.#effect(`start bitmap ${name}`, () => bitmaps.push({ name, path, usable: true, dirty: [false, false] }));
  }

  async openPoint({ since, next }: OpenPointRequest): Promise<Point> {
    const vm = this.#vm;
    if (vm.pointOpen) throw new Failure('job-conflict', 'a point is open');
    const path = vm.live ?? vm.defined;
    const blocks = this.#life.here.images[path];
    if (blocks === undefined) throw new Failure('not-found', `${path} doesn't exist`);
    const bitmap = this.#life.here.bitmaps.find(({ name }) => name === since);
    if (since !== null && bitmap?.usable !== true) throw new Failure('tracking-lost', `no bitmap ${since}`);
    this.#effect('open a point', () => {
      vm.pointOpen = true;
      if (next !== null) this.#life.here.bitmaps.push({ name: next, path, usable: true, dirty: [false, false] });
    });
    const dirty = bitmap === undefined ? ([true, true] as const) : ([...bitmap.dirty] as const);
    const point: ModelPoint = {
      instant: 0,
      instantEnd: 0,
      scratchFiles: [],
      exports: [
        {
          target: 'vda',
          socketPath: '',
          exportName: '',
          size: 2 * BLOCK,
          dirtyContext: since === null ? null : 'dirty',
        },
      ],
      blocks: [...blocks],
      dirty,
    };
    return point;
  }

  async closePoint(): Promise<void> {
    const vm = this.#vm;
    if (vm.pointOpen) this.#effect('close the point', () => (vm.pointOpen = false));
  }

  async listBitmaps(): Promise<BitmapStatus[]> {
    this.#life.live();
    return this.#life.here.bitmaps.map(({ name, usable }) => ({ name, usable }));
  }

  async dropBitmap(_vmId: string, name: string): Promise<void> {
    const { here } = this.#life;
    if (!here.bitmaps.some((bitmap) => bitmap.name === name)) return;
    this.#effect(`drop bitmap ${name}`, () => (here.bitmaps = here.bitmaps.filter((bitmap) => bitmap.name !== name)));
  }

  async exportDefinition(): Promise<string> {
    return 'xml';
  }

  /** Nobody changes it here. */
  async factsOf(): Promise<Readonly<Record<string, string>>> {
    return {};
  }

  async adaptDefinition({ definition }: AdaptRequest): Promise<string> {
    return definition;
  }

  async lackingFor(): Promise<readonly string[]> {
    return [];
  }

  async define({ disks }: DefineRequest): Promise<void> {
    const defined = disks.get('vda')!.path;
    this.#effect(`define the VM on ${defined}`, () => {
      const vm = this.#life.here.vm ?? { state: 'off', live: null, pointOpen: false };
      this.#life.here.vm = { ...vm, defined };
    });
  }

  async undefine(): Promise<void> {
    this.#effect('undefine the VM', () => (this.#life.here.vm = null));
  }

  async setAutostart(): Promise<void> {
    this.#life.live();
  }

  async start(): Promise<void> {
    const vm = this.#vm;
    const { here } = this.#life;
    if (vm.state !== 'off') return;
    if (here.images[vm.defined] === undefined) throw new Failure('libvirt', `can't start: ${vm.defined} doesn't exist`);
    this.#effect('start the VM', () => {
      vm.state = 'running';
      vm.live = vm.defined;
      this.#expectContent(here.images[vm.defined]!);
      this.#expectUnknowing();
      this.#expectLease();
    });
  }

  async shutdown(): Promise<void> {
    await this.destroy('shut the guest down');
  }

  async destroy(words = 'end the VM'): Promise<void> {
    const vm = this.#vm;
    if (vm.state === 'off') return;
    this.#effect(words, () => {
      vm.state = 'off';
      vm.live = null;
      vm.pointOpen = false;
    });
  }

  async suspend(): Promise<void> {
    const vm = this.#vm;
    if (vm.state === 'off') throw new Failure('vm-not-running', 'the VM is off');
    this.#effect('pause the VM', () => (vm.state = 'paused'));
  }

  async resume(): Promise<void> {
    const vm = this.#vm;
    if (vm.state === 'off') throw new Failure('vm-not-running', 'the VM is off');
    this.#effect('resume the VM', () => {
      vm.state = 'running';
      this.#expectUnknowing();
      this.#expectLease();
    });
  }

  async setNetwork(): Promise<void> {
    this.#life.live();
  }

  async commitOverlays(): Promise<void> {
    const vm = this.#vm;
    const { here } = this.#life;
    const overlay = vm.live ?? vm.defined;
    const base = here.record!.disks[0]!.path;
    this.#effect('merge the overlay', () => {
      here.images[base] = here.images[overlay]!;
      vm.defined = base;
      if (vm.live !== null) vm.live = base;
    });
  }

  async close(): Promise<void> {
    // nothing is held
  }

  /** What a guest finds on its disks is what it, or the guest that it goes on from, had there. */
  #expectContent(found: Blocks): void {
    const { run, here, host } = this.#life;
    const plan = here.plans.find(({ state }) => state === 'running');
    let expected: Blocks | null = here.truth;
    if (plan?.kind === 'take-over') expected = run.world.hosts[other(host)].truth;
    if (plan?.kind === 'unplanned-failover') expected = contentOfPoint(this.#life);
    if (expected !== null && BLOCKS.some((block) => expected[block] !== found[block])) {
      run.violate(
        `${host}: the VM starts with ${found.join(',')} on its disk; the guest had ${expected.join(',')} there`,
      );
    }
    here.truth = [...found];
  }

  /** A daemon that was told of a failover elsewhere starts nothing. */
  #expectUnknowing(): void {
    const { run, here, host } = this.#life;
    if (here.knows > (here.record?.epoch ?? 0))
      run.violate(`${host}: starts the VM although it was told of a failover`);
  }

  /** Whoever needs a lease holds one when its VM begins to run. */
  #expectLease(): void {
    const { run, here, host } = this.#life;
    const { record, lease } = here;
    if (record === null || !needsLease(record)) return;
    if (lease === null || heldUntil(lease, record.leaseSeconds!) <= run.world.clock) {
      run.violate(`${host}: the VM runs without a lease`);
    }
  }
}

function contentOfPoint({ here }: Life): Blocks | null {
  const { replica, record } = here;
  const chosen = record?.failover?.sequence;
  if (replica === null || chosen === undefined) return null;
  if (replica.latest?.sequence === chosen) return contentOf(replica.applied);
  return replica.older.find(({ point }) => point.sequence === chosen)?.blocks ?? null;
}
