/**
 * zstd in one call from memory to memory, with contexts that are kept. Node's own synchronous calls make a stream, a context and an output
 * buffer each time: for pieces of 64 KiB that costs half as much again as the packing itself, most of it in collecting garbage. Node has
 * no public call for a context that stays; this is the one place that uses the binding beneath its streams, and falls back to the
 * public calls in a Node that has another one. Contexts belong to the thread.
 */
import {
  constants as zlib,
  createZstdCompress,
  createZstdDecompress,
  zstdCompressSync,
  zstdDecompressSync,
} from 'node:zlib';
import type { Arena } from '../lib/arena.ts';
import { Failure } from '../model/failure.ts';

/** What Node's public calls need of room beyond the data, so that they don't join several pieces. */
const SLACK = 4 * 1024;

interface Binding {
  writeSync(
    flush: number,
    input: Uint8Array,
    inputAt: number,
    inputLength: number,
    output: Uint8Array,
    outputAt: number,
    outputLength: number,
  ): void;
}

interface Stream {
  readonly _handle: Binding | null;
  /** Bytes of output and of input that the last call left. */
  readonly _writeState: Uint32Array;
  on(event: 'error', listener: (error: Error) => void): unknown;
}

class Context {
  readonly #stream: Stream;
  /** Spoilt by data that was no frame: what it would make of the next one isn't known. */
  #spoilt = false;

  constructor(stream: Stream) {
    this.#stream = stream;
    stream.on('error', () => (this.#spoilt = true));
  }

  get usable(): boolean {
    return !this.#spoilt && this.#stream._handle !== null;
  }

  /** All of the input into the output; gives how many bytes of that are filled, or undefined where it doesn't work out. */
  run(flush: number, input: Uint8Array, output: Uint8Array): number | undefined {
    if (!this.usable) return undefined;
    this.#stream._handle!.writeSync(flush, input, 0, input.length, output, 0, output.length);
    const [outputLeft, inputLeft] = this.#stream._writeState;
    if (!this.usable || inputLeft !== 0) return undefined;
    return output.length - outputLeft!;
  }
}

const packers = new Map<number, Context>();
let unpacker: Context | undefined;

/** Whether this Node has the binding; decided once, by a trial. */
const bound = (() => {
  const trial = Buffer.alloc(100, 'abc');
  try {
    const filled = packerOf(1).run(zlib.ZSTD_e_end, trial, Buffer.alloc(packedAtMost(trial.length)));
    return filled !== undefined && filled < trial.length;
  } catch {
    return false; // another shape of the binding
  }
})();

/** Bytes that packing so many may need at most. */
export function packedAtMost(length: number): number {
  return length + (length >> 8) + SLACK;
}

/** Packs `data` into `room` of at least `packedAtMost` bytes; gives the part of it that was filled. @param level 1..19, or below 0: faster. */
export function packInto(data: Buffer, level: number, room: Buffer): Buffer {
  if (!bound) {
    const params = { [zlib.ZSTD_c_compressionLevel]: level };
    const packed = zstdCompressSync(data, { params, chunkSize: packedAtMost(data.length) });
    return room.subarray(0, packed.copy(room));
  }
  const filled = packerOf(level).run(zlib.ZSTD_e_end, data, room);
  if (filled === undefined || filled === room.length) {
    packers.delete(level);
    throw new Failure('internal', 'zstd did not pack');
  }
  return room.subarray(0, filled);
}

/**
 * One zstd frame of exactly `length` bytes; undefined where it isn't that.
 * @param arena gives the memory; left out: memory of its own.
 */
export function unpackFrame(packed: Buffer, length: number, arena?: Arena): Buffer | undefined {
  if (!bound) return unpackByPublicCall(packed, length);
  // Room for one byte more, so that a frame of more bytes shows.
  const output = arena?.take(length + 1) ?? Buffer.allocUnsafeSlow(length + 1);
  // A frame that lacks its end behind its last byte leaves a context that still waits for it.
  for (const fresh of unpacker === undefined ? [true] : [false, true]) {
    if (fresh) unpacker = new Context(createZstdDecompress() as unknown as Stream);
    if (unpacker!.run(zlib.ZSTD_e_continue, packed, output) === length) return output.subarray(0, length);
  }
  unpacker = undefined;
  return undefined;
}

function unpackByPublicCall(packed: Buffer, length: number): Buffer | undefined {
  try {
    const data = zstdDecompressSync(packed, { maxOutputLength: length, chunkSize: length + SLACK });
    return data.length === length ? data : undefined;
  } catch {
    return undefined; // no such frame: that is the answer
  }
}

function packerOf(level: number): Context {
  let packer = packers.get(level);
  if (packer === undefined) {
    const params = { [zlib.ZSTD_c_compressionLevel]: level };
    packer = new Context(createZstdCompress({ params }) as unknown as Stream);
    packers.set(level, packer);
  }
  return packer;
}
