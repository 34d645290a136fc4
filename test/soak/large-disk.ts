/** A VM with one disk that is too large to be kept in memory: its blocks are written whole, and only their digests are known. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { digest } from '../../src/lib/digest.ts';
import { NbdClient } from '../../src/qemu/nbd/client.ts';
import { ReplicatedVm } from '../faults/replicated-vm.ts';
import { seeded } from '../faults/replica-primary.ts';
import { TwoHosts } from '../faults/two-hosts.ts';
import { VM, VmHosts } from '../faults/vm-hosts.ts';

export const BLOCK = 65_536;
const TARGET = 'vda';
/** A comparison reads 100 MiB a second at most. */
const PATIENCE_MS = 300_000;

export interface LargeDiskTrial {
  readonly seed: number;
  /** Of the disk, and of one slice of a copy, bytes. */
  readonly size: number;
  readonly slice: number;
  /** Blocks that are written before each of two points. */
  readonly first: number;
  readonly second: number;
}

/** Lets `work` go on with a disk that is replicated, with two points; everything is gone after it. */
export async function withLargeDisk<T>(trial: LargeDiskTrial, work: (disk: LargeDisk) => Promise<T>): Promise<T> {
  process.env['SLICE_BYTES'] = String(trial.slice);
  try {
    const disk = await LargeDisk.begin(trial.seed, trial.size);
    try {
      for (const blocks of [trial.first, trial.second]) {
        await disk.write(blocks);
        await disk.replicated();
      }
      return await work(disk);
    } finally {
      await disk.dispose();
    }
  } finally {
    delete process.env['SLICE_BYTES'];
  }
}

/** What each block that was ever written holds. */
type Contents = ReadonlyMap<number, string>;

export class LargeDisk {
  readonly vm: ReplicatedVm;
  readonly size: number;
  readonly #random: () => number;
  readonly #contents = new Map<number, string>();
  /** By the sequence of a recovery point. */
  readonly #points = new Map<number, Contents>();

  private constructor(vm: ReplicatedVm, size: number, random: () => number) {
    this.vm = vm;
    this.size = size;
    this.#random = random;
  }

  /** Replication of a running VM with an empty disk has begun. */
  static async begin(seed: number, size: number): Promise<LargeDisk> {
    const random = seeded(seed);
    const vms = await VmHosts.make(random, [{ target: TARGET, size }]);
    const hosts = await TwoHosts.open(vms.directory, vms.hypervisors);
    await hosts.begin();
    await vms.hypervisors.a.start(VM);
    return new LargeDisk(await ReplicatedVm.enable(hosts, vms), size, random);
  }

  async dispose(): Promise<void> {
    await this.vm.hosts.close();
    await this.vm.vms.dispose();
  }

  /** The guest writes so many blocks at random places, each once, with data that can't be compressed; flushed. */
  async write(count: number): Promise<void> {
    const places = new Set<number>();
    while (places.size < count) places.add(Math.floor((this.#random() * this.size) / BLOCK));
    const socketPath = this.vm.vms.machines.a.writableSocket(VM);
    const client = await NbdClient.connect({ socketPath, exportName: TARGET });
    try {
      for (const block of places) {
        const data = randomBytes(BLOCK);
        await client.write(block * BLOCK, data);
        this.#contents.set(block, digest(data).toString('hex'));
      }
      await client.flush();
    } finally {
      await client.close();
    }
  }

  /** With the guest quiet: waits until the replica stands at what the disk holds now, which is a point from then on. */
  async replicated(): Promise<number> {
    const now = Date.now();
    const { primaries } = this.vm.host('a').services;
    const isReplicated = () => {
      primaries.loop(this.vm.id).wake();
      const { protectedUntil, copy, inFlight, state } = this.vm.record('a');
      return state === 'Replicating' && copy === null && inFlight === null && (protectedUntil ?? 0) >= now;
    };
    await this.vm.wait('replicated', isReplicated, PATIENCE_MS);
    const replica = this.vm.host('b').services.replicas.get(this.vm.id);
    await replica.drained();
    const { sequence } = replica.points()[0]!;
    this.#points.set(sequence, new Map(this.#contents));
    return sequence;
  }

  /** Every known point that is there holds what it held; gives how many. Blocks written later are looked at, too: zeros, or older data. */
  async checkPoints(): Promise<number> {
    const replica = this.vm.host('b').services.replicas.get(this.vm.id);
    const known = replica.points().filter(({ sequence }) => this.#points.has(sequence));
    const zeros = digest(Buffer.alloc(BLOCK)).toString('hex');
    for (const { sequence } of known) {
      const held = this.#points.get(sequence)!;
      const view = await replica.openView(sequence);
      const client = await NbdClient.connect({ socketPath: view.socketPath, exportName: TARGET });
      try {
        for (const block of this.#contents.keys()) {
          const found = digest(await client.read(block * BLOCK, BLOCK)).toString('hex');
          assert.ok(found === (held.get(block) ?? zeros), `point ${sequence}, block ${block}`);
        }
      } finally {
        await client.close();
        await view.close();
      }
    }
    return known.length;
  }
}
