/** The machines of two hosts, on which one VM runs, now here, now there, and never on both. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { QsdHost } from '../../src/hypervisor/qsd/host.ts';
import { QsdHypervisor } from '../../src/hypervisor/qsd/qsd.ts';
import { until } from '../../src/lib/clock.ts';
import { run } from '../../src/lib/process.ts';
import { Failure } from '../../src/model/failure.ts';
import type { ReplicatedDisk } from '../../src/model/relationship.ts';
import { checkImage, createImage } from '../../src/qemu/image.ts';
import { GuestDisks } from './guest-disks.ts';
import { other, type HostName } from './two-hosts.ts';

export const VM = '99999999-2222-4333-8444-555555555555';
export const VM_NAME = 'guest';
const MIB = 1024 * 1024;
export const DISKS = [
  { target: 'vda', size: 4 * MIB + 4608 },
  { target: 'vdb', size: MIB },
];

/** Starts no VM that runs on the other host. */
class GuardedHypervisor extends QsdHypervisor {
  /** While true no VM can be started. */
  refuses = false;
  readonly #elsewhere: QsdHost;

  constructor(host: QsdHost, elsewhere: QsdHost) {
    super(host);
    this.#elsewhere = elsewhere;
  }

  override async start(vmId: string): Promise<void> {
    assert.notEqual(this.#elsewhere.running.get(vmId)?.paused, false, 'the VM runs on the other host');
    if (this.refuses) throw new Failure('io', 'the VM can not be started here');
    await super.start(vmId);
  }

  override async resume(vmId: string): Promise<void> {
    assert.notEqual(this.#elsewhere.running.get(vmId)?.paused, false, 'the VM runs on the other host');
    await super.resume(vmId);
  }
}

export class VmHosts {
  readonly directory: string;
  readonly machines: Readonly<Record<HostName, QsdHost>>;
  readonly hypervisors: Readonly<Record<HostName, GuardedHypervisor>>;
  readonly disks: readonly ReplicatedDisk[];
  readonly #random: () => number;
  #guest: GuestDisks | undefined;

  private constructor(directory: string, disks: readonly ReplicatedDisk[], random: () => number) {
    this.directory = directory;
    this.disks = disks;
    this.#random = random;
    const machine = (name: HostName) =>
      new QsdHost({ directory: join(directory, name, 'vms'), runDirectory: join(directory, name, 'vm') });
    this.machines = { a: machine('a'), b: machine('b') };
    const hypervisor = (name: HostName) => new GuardedHypervisor(this.machines[name], this.machines[other(name)]);
    this.hypervisors = { a: hypervisor('a'), b: hypervisor('b') };
  }

  /** It keeps in memory what the disks hold: for small ones. */
  get guest(): GuestDisks {
    this.#guest ??= new GuestDisks(this.disks, this.#random);
    return this.#guest;
  }

  /** The VM is defined on host a, and off. */
  static async make(random: () => number, replicated: readonly ReplicatedDisk[] = DISKS): Promise<VmHosts> {
    const directory = await mkdtemp(join(tmpdir(), 'us-2h-'));
    const hosts = new VmHosts(directory, replicated, random);
    const disks = replicated.map(({ target }) => {
      return { target, path: join(directory, 'a', `${target}.qcow2`), format: 'qcow2' as const };
    });
    await mkdir(join(directory, 'a'));
    for (const [i, { path, format }] of disks.entries()) await createImage(path, replicated[i]!.size, { format });
    const definition = JSON.stringify({ id: VM, name: VM_NAME, disks, network: 'connected' });
    const settings = { otherDisks: 'keep', network: 'as-defined', disks: new Map() } as const;
    await hosts.hypervisors.a.define({ definition, id: VM, name: VM_NAME, ...settings });
    return hosts;
  }

  /** One more disk of the VM, which is off on host a. */
  async plug(disk: ReplicatedDisk): Promise<void> {
    const { files } = this.machines.a;
    const file = await files.find(VM);
    const added = {
      target: disk.target,
      path: join(this.directory, 'a', `${disk.target}.qcow2`),
      format: 'qcow2' as const,
    };
    await createImage(added.path, disk.size, { format: added.format });
    const { definition } = file;
    await files.write({ ...file, definition: { ...definition, disks: [...definition.disks, added] } });
    this.guest.plug(disk);
  }

  /** The VM, which is off on host a, loses the disk that it got last. */
  async unplug(): Promise<void> {
    const { files } = this.machines.a;
    const file = await files.find(VM);
    const { definition } = file;
    await files.write({ ...file, definition: { ...definition, disks: definition.disks.slice(0, -1) } });
    this.guest.unplug();
  }

  /** The guest, running on a host, writes. */
  async change(where: HostName, changes: number): Promise<void> {
    await this.guest.change(this.machines[where].writableSocket(VM), changes);
  }

  /** The guest, running on a host, writes again what is there. */
  async rewrite(where: HostName): Promise<void> {
    await this.guest.rewrite(this.machines[where].writableSocket(VM));
  }

  /** Shuts everything down, with the daemons closed before: no process of theirs is left, and the images are whole. */
  async checkImages(paths: readonly string[]): Promise<void> {
    for (const machine of Object.values(this.machines)) await machine.close();
    await until(async () => (await this.#processes()).length === 0, {
      timeoutMs: 10_000,
      onTimeout: () => new Error(`storage daemons are left that work in ${this.directory}`),
    });
    for (const path of paths) assert.equal((await checkImage(path)).corruptions, 0, path);
  }

  /** Process ids of storage daemons that work in the directory. */
  async #processes(): Promise<string[]> {
    const { code, stdout } = await run('pgrep', ['-f', `^qemu-storage-daemon .*${this.directory}/`]);
    assert.ok(code === 0 || code === 1, 'pgrep works');
    return stdout.split('\n').filter(Boolean);
  }

  async dispose(): Promise<void> {
    for (const machine of Object.values(this.machines)) await machine.close();
    await rm(this.directory, { recursive: true, force: true });
  }
}
