import type { Socket } from 'node:net';

/** Bytes that are read ahead of what is wanted: more than two thousand requests, which only a hostile client sends at once. */
const MAX_AHEAD = 64 * 1024;

/** What a client sends, by the number of bytes that are wanted. */
export class Inbound {
  readonly #socket: Socket;
  #rest: Buffer = Buffer.alloc(0);
  #ended = false;
  #more: (() => void) | undefined;

  constructor(socket: Socket) {
    this.#socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
      if (this.#rest.length > MAX_AHEAD) socket.pause();
      this.#more?.();
    });
    // However the connection ended, for the reader the client has gone.
    socket.on('close', () => this.#end());
    socket.on('end', () => this.#end());
  }

  /** The next `length` bytes, or undefined when the client has gone before sending them all. */
  async take(length: number): Promise<Buffer | undefined> {
    while (this.#rest.length < length) {
      if (this.#ended) return undefined;
      const { promise, resolve } = Promise.withResolvers<void>();
      this.#more = resolve;
      if (this.#socket.isPaused()) this.#socket.resume();
      await promise;
      this.#more = undefined;
    }
    return this.takeNow(length);
  }

  /** The next `length` bytes if they are here. */
  takeNow(length: number): Buffer | undefined {
    if (this.#rest.length < length) return undefined;
    const taken = this.#rest.subarray(0, length);
    this.#rest = this.#rest.subarray(length);
    return taken;
  }

  #end(): void {
    this.#ended = true;
    this.#more?.();
  }
}
