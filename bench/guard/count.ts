/**
 * Loaded into a daemon and each of its lanes before anything else (`node --import`): counts the bytes that pass through what copies, hashes
 * and packs them in JavaScript's memory. Each thread keeps a file of its own in the directory that `UNDERSTUDY_COUNTS` names.
 */
import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { MessagePort, threadId, Worker } from 'node:worker_threads';
import { createZstdCompress, createZstdDecompress } from 'node:zlib';

export interface Counts {
  /** Bytes copied from one place in memory to another. */
  copied: number;
  /** Bytes cloned into a message to another thread. */
  cloned: number;
  hashed: number;
  /** Bytes that went into zstd, and that came out of it. */
  packed: number;
  unpacked: number;
}

export const DIRECTORY_VARIABLE = 'UNDERSTUDY_COUNTS';
/** Smaller ones are heads, texts and numbers. */
const SMALLEST = 2048;
/** After so many bytes more the file is written anew. */
const EVERY = 256 * 1024;

type Args = readonly unknown[];
type Anything = (this: unknown, ...args: Args) => unknown;

const counts: Counts = { copied: 0, cloned: 0, hashed: 0, packed: 0, unpacked: 0 };
let untold = 0;

function add(kind: keyof Counts, bytes: number): void {
  if (bytes < SMALLEST) return;
  counts[kind] += bytes;
  untold += bytes;
  if (untold < EVERY) return;
  untold = 0;
  writeFileSync(join(directory!, `${process.pid}-${threadId}.json`), JSON.stringify(counts));
}

/** Puts a function in the place of another that does the same and counts. */
function watch(
  owner: object,
  name: string,
  bytesOf: (args: Args, self: unknown, result: unknown) => number,
  kind: keyof Counts,
): void {
  const real = Reflect.get(owner, name) as Anything;
  const counting: Anything = function (...args) {
    const result = Reflect.apply(real, this, args) as unknown;
    add(kind, bytesOf(args, this, result));
    return result;
  };
  Object.defineProperty(owner, name, { value: Object.assign(counting, real), writable: true, configurable: true });
}

const lengthOf = (value: unknown): number => (ArrayBuffer.isView(value) ? value.byteLength : 0);
const ofResult = (_args: Args, _self: unknown, result: unknown): number =>
  typeof result === 'number' ? result : lengthOf(result);
const ofFirst = ([first]: Args): number => lengthOf(first);

/** Of what a message holds and doesn't hand over. */
function clonedBytes([message, transfer]: Args): number {
  const given = Array.isArray(transfer)
    ? transfer
    : ((transfer as { transfer?: unknown[] } | undefined)?.transfer ?? []);
  const handed = new Set<unknown>(given);
  const of = (value: unknown, depth: number): number => {
    if (ArrayBuffer.isView(value)) {
      return handed.has(value.buffer) || value.buffer instanceof SharedArrayBuffer ? 0 : value.buffer.byteLength;
    }
    if (typeof value !== 'object' || value === null || depth === 0) return 0;
    return Object.values(value).reduce<number>((sum, one) => sum + of(one, depth - 1), 0);
  };
  return of(message, 4);
}

const directory = process.env[DIRECTORY_VARIABLE];
if (directory !== undefined) {
  const typedArray = Object.getPrototypeOf(Uint8Array.prototype) as object;
  watch(typedArray, 'set', ofFirst, 'copied');
  watch(typedArray, 'slice', ofResult, 'copied');
  watch(Buffer.prototype, 'copy', ofResult, 'copied');
  watch(Buffer, 'concat', ofResult, 'copied');
  watch(Buffer, 'copyBytesFrom', ofResult, 'copied');
  watch(Buffer, 'from', (args, _self, result) => (ArrayBuffer.isView(args[0]) ? lengthOf(result) : 0), 'copied');
  for (const owner of [MessagePort.prototype, Worker.prototype]) watch(owner, 'postMessage', clonedBytes, 'cloned');

  const require = createRequire(import.meta.url);
  const blake = require('@napi-rs/blake-hash') as { Blake3Hasher: { prototype: object } };
  watch(blake, 'blake3', ofFirst, 'hashed');
  watch(blake.Blake3Hasher.prototype, 'update', ofFirst, 'hashed');
  // Of (flush, input, at, length, output, at, length).
  const bindingOf = (stream: object): object => Object.getPrototypeOf(Reflect.get(stream, '_handle')) as object;
  watch(bindingOf(createZstdCompress()), 'writeSync', (args) => args[3] as number, 'packed');
  watch(bindingOf(createZstdDecompress()), 'writeSync', (args) => args[6] as number, 'unpacked');
}
