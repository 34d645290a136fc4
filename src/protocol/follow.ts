import { open, type FileHandle } from 'node:fs/promises';
import { Failure } from '../model/failure.ts';
import type { LogFile } from './endpoint.ts';

const READ_SIZE = 512 * 1024;

export interface Following {
  /**
   * Whoever takes a chunk is done with it when it has taken `READ_SIZE` bytes more and asks again, as one connection is: it waits
   * until what it was given has left, once that is more than it likes to hold. Memory is used again then.
   */
  readonly reuse?: boolean;
}

/** Bytes of a log from `offset` to its end, while it may still be growing. Throws when whoever writes it gives up. */
export async function* follow(
  path: string,
  offset: number,
  moreThan: LogFile['moreThan'],
  { reuse = false }: Following = {},
): AsyncGenerator<Buffer, void, undefined> {
  let file: FileHandle | undefined;
  const memory = reuse ? new Ring() : undefined;
  try {
    let at = offset;
    for (let end = await moreThan(at); end !== null; end = await moreThan(at)) {
      file ??= await open(path, 'r');
      while (at < end) {
        const length = Math.min(READ_SIZE, end - at);
        const buffer = memory?.take(length) ?? Buffer.allocUnsafeSlow(length);
        const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
        if (bytesRead === 0) throw new Failure('io', `${path} ends at ${at}, before ${end}`);
        at += bytesRead;
        yield buffer.subarray(0, bytesRead);
      }
    }
  } finally {
    await file?.close();
  }
}

/** Two blocks in turn: one is begun again when the other is full. */
class Ring {
  #now = Buffer.allocUnsafeSlow(READ_SIZE);
  #other = Buffer.allocUnsafeSlow(READ_SIZE);
  #used = 0;

  /** Memory of at most so many bytes, at least one. */
  take(most: number): Buffer {
    if (this.#used === READ_SIZE) {
      [this.#now, this.#other] = [this.#other, this.#now];
      this.#used = 0;
    }
    const taken = this.#now.subarray(this.#used, this.#used + most);
    this.#used += taken.length;
    return taken;
  }
}
