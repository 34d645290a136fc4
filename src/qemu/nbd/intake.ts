import { connect, type Socket } from 'node:net';
import { Failure } from '../../model/failure.ts';

/** Bytes that are read at once while no large payload is expected: several small replies in one go. */
const SCRATCH_BYTES = 8192;

/**
 * The receiving side of a connection whose reader always knows how many bytes it wants next, and where. What is
 * large lands directly in its own buffer (twice as fast as 'data' events: no allocation, no copy); what is small comes
 * through a scratch buffer.
 */
export class Intake {
  readonly socket: Socket;
  readonly #scratch = Buffer.allocUnsafeSlow(SCRATCH_BYTES);
  #placed: Uint8Array = this.#scratch;
  #target: Uint8Array | undefined;
  #filled = 0;
  #then: (() => void) | undefined;
  /** Bytes that came before anybody wanted them. */
  #early: Buffer = Buffer.alloc(0);

  constructor(socketPath: string) {
    this.socket = connect({
      path: socketPath,
      onread: {
        buffer: () => this.#place(),
        callback: (count, bytes) => this.#arrived(bytes.subarray(0, count)),
      },
    });
    this.socket.resume(); // or the end of the stream is never told
  }

  /** Fills `target` with the next bytes, then calls `then`. One want at a time; `then` may name the next. */
  want(target: Uint8Array, then: () => void): void {
    if (this.#target !== undefined) throw new Failure('internal', 'two readers of one NBD connection');
    this.#target = target;
    this.#filled = 0;
    this.#then = then;
    if (target.length === 0) this.#complete();
    if (this.#early.length === 0) return;
    const early = this.#early;
    this.#early = Buffer.alloc(0);
    this.#feed(early);
  }

  /** The next `length` bytes. */
  async take(length: number): Promise<Buffer> {
    const target = Buffer.alloc(length);
    await new Promise<void>((resolve) => this.want(target, resolve));
    return target;
  }

  #place(): Uint8Array {
    const left = this.#target === undefined ? 0 : this.#target.length - this.#filled;
    this.#placed = left >= SCRATCH_BYTES ? this.#target!.subarray(this.#filled) : this.#scratch;
    return this.#placed;
  }

  #arrived(bytes: Uint8Array): boolean {
    try {
      if (this.#placed === this.#scratch) {
        this.#feed(bytes);
      } else {
        this.#filled += bytes.length;
        if (this.#filled === this.#target!.length) this.#complete();
      }
    } catch (error) {
      this.socket.destroy(error instanceof Error ? error : new Error(String(error)));
    }
    return true;
  }

  #feed(bytes: Uint8Array): void {
    let at = 0;
    while (at < bytes.length) {
      const target = this.#target;
      if (target === undefined) {
        this.#early = Buffer.concat([this.#early, bytes.subarray(at)]);
        return;
      }
      const count = Math.min(bytes.length - at, target.length - this.#filled);
      target.set(bytes.subarray(at, at + count), this.#filled);
      at += count;
      this.#filled += count;
      if (this.#filled === target.length) this.#complete();
    }
  }

  #complete(): void {
    const then = this.#then!;
    this.#target = undefined;
    this.#then = undefined;
    then();
  }
}
