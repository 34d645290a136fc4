/** A guest without a machine: writes to the disks of a running VM of the qsd hypervisor and knows what they must hold. */
import { randomBytes } from 'node:crypto';
import { NbdClient } from '../../src/qemu/nbd/client.ts';
import type { ReplicatedDisk } from '../../src/model/relationship.ts';

const CLUSTER = 65_536;

export class GuestDisks {
  disks: readonly ReplicatedDisk[];
  /** What the disks hold, by index. */
  bytes: Buffer[];
  readonly #random: () => number;
  /** A cluster that was written before. */
  #latest: Buffer = randomBytes(CLUSTER);

  constructor(disks: readonly ReplicatedDisk[], random: () => number) {
    this.disks = disks;
    this.#random = random;
    this.bytes = disks.map(({ size }) => Buffer.alloc(size));
  }

  below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }

  /** It finds one more disk, which reads as zeros. */
  plug(disk: ReplicatedDisk): void {
    this.disks = [...this.disks, disk];
    this.bytes.push(Buffer.alloc(disk.size));
  }

  /** The disk that it found last is gone. */
  unplug(): void {
    this.disks = this.disks.slice(0, -1);
    this.bytes.pop();
  }

  snapshot(): Buffer[] {
    return this.bytes.map((disk) => Buffer.from(disk));
  }

  /** The guest goes on from another state: a failover to a point. */
  goOnFrom(state: readonly Buffer[]): void {
    this.bytes = state.map((disk) => Buffer.from(disk));
  }

  /** `changes` writes, zeroings and trims at random places, on all disks; flushed. */
  async change(socketPath: string, changes: number): Promise<void> {
    const clients: NbdClient[] = [];
    try {
      for (const { target } of this.disks) {
        clients.push(await NbdClient.connect({ socketPath, exportName: target }));
      }
      for (let i = 0; i < changes; i++) {
        const disk = this.below(this.disks.length);
        await this.#change(clients[disk]!, this.bytes[disk]!);
      }
      for (const client of clients) await client.flush();
    } finally {
      for (const client of clients) await client.close();
    }
  }

  /** Writes everything again that isn't zeros, as it is; flushed. */
  async rewrite(socketPath: string): Promise<void> {
    for (const [disk, bytes] of this.bytes.entries()) {
      const client = await NbdClient.connect({ socketPath, exportName: this.disks[disk]!.target });
      try {
        for (let at = 0; at < bytes.length; at += CLUSTER) {
          const cluster = bytes.subarray(at, at + CLUSTER);
          if (cluster.some((byte) => byte !== 0)) await client.write(at, cluster);
        }
        await client.flush();
      } finally {
        await client.close();
      }
    }
  }

  /** Writes data that can't be compressed at the beginning of the first disk; flushed. */
  async overwrite(socketPath: string, length: number): Promise<void> {
    const client = await NbdClient.connect({ socketPath, exportName: this.disks[0]!.target });
    try {
      const data = randomBytes(length);
      await client.write(0, data);
      await client.flush();
      data.copy(this.bytes[0]!);
    } finally {
      await client.close();
    }
  }

  /** Writes some bytes that can't be compressed at each of these places of the first disk, others each time or the same; flushed. */
  async scatter(socketPath: string, places: readonly number[], length: number, same?: Buffer): Promise<void> {
    const client = await NbdClient.connect({ socketPath, exportName: this.disks[0]!.target });
    try {
      for (const offset of places) {
        const data = same ?? randomBytes(length);
        await client.write(offset, data);
        data.copy(this.bytes[0]!, offset);
      }
      await client.flush();
    } finally {
      await client.close();
    }
  }

  /** What can't be compressed, what can, or what was written before. */
  #data(length: number): Buffer {
    const what = this.below(4);
    if (what === 0) return Buffer.alloc(length, this.#latest);
    if (what === 1) return Buffer.alloc(length, 1 + this.below(255));
    const data = randomBytes(length);
    if (length >= CLUSTER) this.#latest = data.subarray(0, CLUSTER);
    return data;
  }

  async #change(client: NbdClient, bytes: Buffer): Promise<void> {
    const unit = this.below(3) === 0 ? 512 : CLUSTER;
    const offset = this.below(Math.floor(bytes.length / unit)) * unit;
    const length = Math.min((1 + this.below(4)) * (unit === 512 ? 4608 : unit), bytes.length - offset);
    switch (this.below(6)) {
      case 0:
        bytes.fill(0, offset, offset + length);
        return await client.writeZeroes(offset, length, { mayUnmap: this.below(2) === 0 });
      case 1:
        await client.trim(offset, length);
        // What a trimmed range reads as is the device's to say.
        (await client.read(offset, length)).copy(bytes, offset);
        return;
      default: {
        const data = this.#data(length);
        data.copy(bytes, offset);
        await client.write(offset, data);
      }
    }
  }
}
