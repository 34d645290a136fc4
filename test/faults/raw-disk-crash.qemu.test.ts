/** Killed while a raw disk is put under tracking, or given back: the VM has it, as it was, at every place, and both images hold the same. */
import assert from 'node:assert/strict';
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import type { DefineRequest } from '../../src/hypervisor/hypervisor.ts';
import { QsdHost } from '../../src/hypervisor/qsd/host.ts';
import { QsdHypervisor } from '../../src/hypervisor/qsd/qsd.ts';
import { readPlans } from '../../src/journal/journal.ts';
import { Failure } from '../../src/model/failure.ts';
import { NbdClient } from '../../src/qemu/nbd/client.ts';
import { MiB, pattern, scratchDirectory } from '../../src/qemu/testing.ts';
import { makeTrackingImage, removeTrackingImage, TRACKING_SUFFIX } from '../../src/qemu/tracking-image.ts';
import { backward, forward } from './crash-places.ts';
import { serveHypervisors } from './remote-hypervisor.ts';
import { newSeed, seeded } from './replica-primary.ts';
import { VM } from './vm-hosts.ts';

/** Some of the places; `CRASHES=all` takes all. */
const SAMPLE = process.env['CRASHES'] === 'all' ? Number.POSITIVE_INFINITY : 1;
const SIZE = 2 * MiB;

/** Defines what it is asked for, and says that it failed: the worst that a plan has to take back. */
class FailingHypervisor extends QsdHypervisor {
  fails: 'never' | 'once' = 'never';

  override async define(request: DefineRequest): Promise<void> {
    await super.define(request);
    if (this.fails === 'never') return;
    this.fails = 'never';
    throw new Failure('io', 'planned');
  }
}

class RawDiskWorld {
  readonly directory: string;
  readonly raw: string;
  readonly image: string;
  readonly machine: QsdHost;
  readonly hypervisor: FailingHypervisor;
  #bytes = pattern(SIZE, 1);

  constructor(directory: string) {
    this.directory = directory;
    this.raw = join(directory, 'disks/vda.raw');
    this.image = `${this.raw}${TRACKING_SUFFIX}`;
    this.machine = new QsdHost({ directory: join(directory, 'vms'), runDirectory: join(directory, 'vm') });
    this.hypervisor = new FailingHypervisor(this.machine);
  }

  static async make(t: TestContext): Promise<RawDiskWorld> {
    const world = new RawDiskWorld(await scratchDirectory(t));
    t.after(() => world.machine.close());
    await mkdir(join(world.directory, 'disks'));
    await writeFile(world.raw, world.#bytes);
    const disks = [{ target: 'vda', path: world.raw, format: 'raw' }];
    const definition = JSON.stringify({ id: VM, name: 'guest', disks, network: 'connected' });
    const rest = { otherDisks: 'keep', network: 'as-defined', disks: new Map() } as const;
    await world.hypervisor.define({ definition, id: VM, name: 'guest', ...rest });
    return world;
  }

  /** Begins the plan of that kind, or goes on with the one that is there; dies at `crash`. */
  async carryOut(kind: string, crash?: string): Promise<void> {
    const child = fork(
      join(import.meta.dirname, 'raw-disk-process.ts'),
      [this.directory, kind, VM, this.raw, this.image],
      {
        env: { ...process.env, ...(crash === undefined ? {} : { UNDERSTUDY_CRASH: crash }) },
        execArgv: [],
        serialization: 'advanced',
      },
    );
    const settled = serveHypervisors(child, { a: this.hypervisor, b: this.hypervisor });
    const [code, signal] = (await once(child, 'exit')) as [number | null, string | null];
    await settled();
    if (crash === undefined) assert.equal(code, 0);
    else assert.equal(signal, 'SIGKILL', `${crash} was never reached`);
  }

  /** The guest runs on what it is defined on, finds what it wrote, writes, and is shut down. */
  async use(): Promise<void> {
    await this.hypervisor.start(VM);
    const socketPath = this.machine.writableSocket(VM);
    const guest = await NbdClient.connect({ socketPath, exportName: 'vda', metaContexts: [] });
    assert.ok((await guest.read(0, SIZE)).equals(this.#bytes), 'the guest finds what it wrote');
    this.#bytes = pattern(SIZE, this.#bytes[0]! + 1);
    await guest.write(0, this.#bytes);
    await guest.flush();
    await guest.close();
    await this.hypervisor.shutdown(VM, 10_000);
    assert.ok((await readFile(this.raw)).equals(this.#bytes), 'the raw disk holds what it wrote');
  }

  async check(isTracked: boolean): Promise<void> {
    const { disks } = await this.hypervisor.getVm(VM);
    assert.deepEqual(
      disks.map(({ path, unsupported }) => [path, unsupported === undefined]),
      [[isTracked ? this.image : this.raw, isTracked]],
    );
    const files = [this.raw, ...(isTracked ? [this.image] : [])].map((path) => path.slice(path.lastIndexOf('/') + 1));
    assert.deepEqual((await readdir(join(this.directory, 'disks'))).toSorted(), files);
    await this.use();
    if (!isTracked) return;
    await this.hypervisor.startBitmap(VM, ['vda'], 'understudy-1');
    await this.hypervisor.dropBitmap(VM, 'understudy-1');
  }

  /** Whatever it was left as. */
  async become(tracked: boolean): Promise<void> {
    const path = tracked ? this.image : this.raw;
    if (tracked) await makeTrackingImage(this.image, this.raw);
    const definition = await this.hypervisor.exportDefinition(VM);
    const disks = new Map([['vda', { path, format: tracked ? 'qcow2' : 'raw' } as const]]);
    const rest = { otherDisks: 'keep', network: 'as-defined' } as const;
    await this.hypervisor.define({ definition, id: VM, name: 'guest', disks, ...rest });
    if (!tracked) await removeTrackingImage(this.image);
  }

  async lastPlan(): Promise<string | undefined> {
    const plans = await readPlans(join(this.directory, 'journal'));
    await rm(join(this.directory, 'journal'), { recursive: true });
    return plans.at(-1)?.state;
  }
}

const CASES = [
  { kind: 'track-raw-disk', places: forward('track-raw-disk'), fails: 'never' },
  { kind: 'track-raw-disk', places: backward('track-raw-disk', 'define the VM on the tracking image'), fails: 'once' },
  { kind: 'untrack-raw-disk', places: forward('untrack-raw-disk'), fails: 'never' },
  { kind: 'untrack-raw-disk', places: backward('untrack-raw-disk', 'define the VM on the raw disk'), fails: 'once' },
] as const;

for (const { kind, places, fails } of CASES) {
  const how = fails === 'never' ? 'it is done' : 'it is taken back';
  void test(`killed at any step of ${kind}, and ${how}: the raw disk is the VM's as before`, async (t) => {
    const seed = newSeed();
    t.diagnostic(`SEED=${seed}`);
    const random = seeded(seed);
    const world = await RawDiskWorld.make(t);
    const left = [...places];
    for (let i = 0; i < SAMPLE && left.length > 0; i++) {
      const [crash] = left.splice(Math.floor(random() * left.length), 1);
      t.diagnostic(crash!);
      await world.become(kind === 'untrack-raw-disk');
      world.hypervisor.fails = fails;
      await world.carryOut(kind, crash);
      await world.use(); // before anybody has mended anything
      await world.carryOut(kind);
      assert.equal(await world.lastPlan(), fails === 'never' ? 'done' : 'undone', crash);
      await world.check((kind === 'track-raw-disk') === (fails === 'never'));
    }
  });
}
