import type { Socket } from 'node:net';

/** What a client sends, by the number of bytes that are wanted. Nothing is read ahead of that but the socket's buffer. */
export class Inbound {
  readonly #chunks: AsyncIterator<Buffer>;
  #rest: Buffer = Buffer.alloc(0);

  constructor(socket: Socket) {
    this.#chunks = (socket as AsyncIterable<Buffer>)[Symbol.asyncIterator]();
  }

  /** The next `length` bytes, or undefined when the client has gone before sending them all. */
  async take(length: number): Promise<Buffer | undefined> {
    while (this.#rest.length < length) {
      const next = await this.#more();
      if (next === undefined) return undefined;
      this.#rest = this.#rest.length === 0 ? next : Buffer.concat([this.#rest, next]);
    }
    const taken = this.#rest.subarray(0, length);
    this.#rest = this.#rest.subarray(length);
    return taken;
  }

  async #more(): Promise<Buffer | undefined> {
    try {
      const next = await this.#chunks.next();
      return next.done === true ? undefined : next.value;
    } catch (error) {
      // However the connection broke, for the reader the client has gone.
      if (error instanceof Error && 'code' in error) return undefined;
      throw error;
    }
  }
}
