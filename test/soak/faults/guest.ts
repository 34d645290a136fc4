/** The guest of a VM on one host: writes to its disks by NBD, and knows what they must hold, also when it dies of it. */
import { fillRandom } from '../../../bench/images/random.ts';
import { asFailure, Failure } from '../../../src/model/failure.ts';
import { NbdClient } from '../../../src/qemu/nbd/client.ts';
import { BLOCK, Image } from './image.ts';
import type { Images } from './past.ts';

const PIECE = 4 * 2 ** 20;

export interface GuestDisk {
  readonly target: string;
  readonly size: number;
}

/** A number in [0, below). */
export type Random = (below: number) => number;

export class Guest {
  readonly disks: readonly GuestDisk[];
  /** What the disks hold. */
  images: Images;
  /** The states that each disk may be in, since writing to it was cut short. */
  torn: readonly Images[] | null = null;
  readonly #random: Random;

  constructor(disks: readonly GuestDisk[], images: Images, random: Random) {
    this.disks = disks;
    this.images = images;
    this.#random = random;
  }

  /** Writes, zeroes, trims and copies so many times, and flushes. Failure `interrupted` when the disks die meanwhile: then it is torn. */
  async work(socketPath: string, changes: number): Promise<void> {
    const states = this.images.map((image) => [image]);
    const clients: NbdClient[] = [];
    try {
      for (const { target } of this.disks) clients.push(await NbdClient.connect({ socketPath, exportName: target }));
      for (let i = 0; i < changes; i++) {
        const disk = this.#random(this.disks.length);
        await this.#change(clients[disk]!, states[disk]!);
      }
      for (const client of clients) await client.flush();
      this.images = states.map((all) => all.at(-1)!);
    } catch (error) {
      this.torn = states;
      throw new Failure('interrupted', `the guest died while it wrote: ${asFailure(error).message}`, { cause: error });
    } finally {
      for (const client of clients) await client.close();
    }
  }

  /** After a death, its disks being there again: each sector is the old one or a new one. Gives what is wrong. */
  async mend(socketPath: string): Promise<string | null> {
    const { torn } = this;
    if (torn === null) return null;
    const images: Image[] = [];
    for (const [i, { target }] of this.disks.entries()) {
      const image = Image.ofTorn(await readDisk(socketPath, target), torn[i]!);
      if (image === null) return `${target} holds what was never written there`;
      images.push(image);
    }
    this.images = images;
    this.torn = null;
    return null;
  }

  /** Where its disks don't hold what it wrote; null when they do. */
  async difference(socketPath: string): Promise<string | null> {
    for (const [i, { target }] of this.disks.entries()) {
      const found = this.images[i]!.difference(await readDisk(socketPath, target));
      if (found !== null) return `${target}: ${found}`;
    }
    return null;
  }

  async #change(client: NbdClient, states: Image[]): Promise<void> {
    const image = states.at(-1)!;
    const fine = this.#random(3) === 0;
    const unit = fine ? 512 : BLOCK;
    const offset = this.#random(Math.floor(image.size / unit)) * unit;
    const length = Math.min((1 + this.#random(4)) * (fine ? 4608 : BLOCK), image.size - offset);
    const zeros = image.with(offset, Buffer.alloc(length));
    switch (this.#random(8)) {
      case 0:
        states.push(zeros);
        return await client.writeZeroes(offset, length, { mayUnmap: this.#random(2) === 0 });
      case 1:
        states.push(zeros, image);
        await client.trim(offset, length);
        // What a trimmed range reads as is the device's to say.
        states.push(image.with(offset, await client.read(offset, length)));
        return;
      case 2: // the same again
        return await client.write(offset, image.read(offset, length));
      case 3: // what is elsewhere
        return await this.#write(client, states, offset, image.read(this.#random(image.size - length + 1), length));
      case 4:
        return await this.#write(client, states, offset, Buffer.alloc(length, 1 + this.#random(255)));
      default: {
        const data = Buffer.alloc(length);
        fillRandom(data, this.#random(2 ** 32));
        await this.#write(client, states, offset, data);
      }
    }
  }

  async #write(client: NbdClient, states: Image[], offset: number, data: Buffer): Promise<void> {
    states.push(states.at(-1)!.with(offset, data));
    await client.write(offset, data);
  }
}

/** All of a disk, by NBD. */
export async function readDisk(socketPath: string, exportName: string): Promise<Buffer> {
  const client = await NbdClient.connect({ socketPath, exportName });
  try {
    const bytes = Buffer.allocUnsafe(client.size);
    for (let at = 0; at < bytes.length; at += PIECE) await client.readInto(bytes.subarray(at, at + PIECE), at);
    return bytes;
  } finally {
    await client.close();
  }
}
