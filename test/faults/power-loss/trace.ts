/**
 * What a program and its children did to the files below a directory, in order: the program runs under strace, and its
 * system calls are read from what strace wrote. So nothing in the program has to take part: what QEMU's processes and
 * SQLite write is seen as well as our own, and so is each fsync.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createReadStream } from 'node:fs';
import { rm } from 'node:fs/promises';
import { createInterface } from 'node:readline';

/** Something that a power loss may undo until it is synced, or that says until where all is synced. */
export type Operation =
  | { readonly kind: 'write'; readonly path: string; readonly offset: number; readonly data: Buffer }
  | { readonly kind: 'zero'; readonly path: string; readonly offset: number; readonly length: number }
  | { readonly kind: 'size'; readonly path: string; readonly size: number; readonly grow: boolean }
  | { readonly kind: 'create' | 'mkdir' | 'remove'; readonly path: string }
  | { readonly kind: 'rename'; readonly path: string; readonly to: string }
  /** What ended before `since` (an index of the trace) is durable now. */
  | { readonly kind: 'sync'; readonly path: string; readonly since: number }
  /** A line that the program wrote to its standard output, without the newline. */
  | { readonly kind: 'said'; readonly text: string };

const CALLS =
  'open,openat,creat,write,pwrite64,writev,pwritev,pwritev2,fsync,fdatasync,truncate,ftruncate,fallocate,' +
  'copy_file_range,sendfile,link,linkat,rename,renameat,renameat2,unlink,unlinkat,rmdir,mkdir,mkdirat';
/** Longer than any write. */
const LONGEST = 64 * 1024 * 1024;
const FALLOC_KEEP_SIZE = 1;
const FALLOC_PUNCH_HOLE = 2;
const FALLOC_ZERO_RANGE = 16;

/** Runs `node SCRIPT ARGS…` to its end and gives what it did below `root`. */
export async function traced(
  root: string,
  output: string,
  script: string,
  args: readonly string[],
): Promise<Operation[]> {
  const strace = [
    '-f',
    '-qq',
    '--seccomp-bpf',
    '-y',
    '-xx',
    '-s',
    String(LONGEST),
    '-e',
    `trace=${CALLS}`,
    '-o',
    output,
  ];
  const child = spawn('strace', [...strace, process.execPath, script, ...args], {
    stdio: ['ignore', 'ignore', 'inherit'],
  });
  const [code, signal] = (await once(child, 'exit')) as [number | null, NodeJS.Signals | null];
  if (code !== 0) throw new Error(`${script} ended with ${code ?? signal} under strace`);
  const trace = new Trace(root);
  for await (const line of createInterface({ input: createReadStream(output) })) trace.line(line);
  await rm(output);
  return trace.operations;
}

interface Call {
  readonly name: string;
  readonly args: string;
  readonly begun: number;
}

class Trace {
  readonly operations: Operation[] = [];
  readonly #root: string;
  readonly #unfinished = new Map<string, Call>();
  /** Where a `write` without an offset writes next, by descriptor and file. */
  readonly #at = new Map<string, number>();

  constructor(root: string) {
    this.#root = root;
  }

  line(text: string): void {
    const [, pid, rest] = /^(\d+) +(.*)$/.exec(text) ?? [];
    if (pid === undefined || rest === undefined) throw new Error(`not a line of strace: ${text.slice(0, 200)}`);
    const resumed = /^<\.\.\. \w+ resumed>(.*)$/.exec(rest);
    if (resumed !== null) {
      const call = this.#unfinished.get(pid);
      this.#unfinished.delete(pid);
      if (call !== undefined) this.#ended(call, call.args + resumed[1]!);
      return;
    }
    const [, name, args] = /^(\w+)\((.*)$/.exec(rest) ?? []; // else a signal, or an end
    if (name === undefined || args === undefined) return;
    const call = { name, args, begun: this.operations.length };
    const cut = args.indexOf(' <unfinished ...>');
    if (cut === -1) this.#ended(call, args);
    else this.#unfinished.set(pid, { ...call, args: args.slice(0, cut) });
  }

  #ended({ name, begun }: Call, text: string): void {
    const end = text.lastIndexOf(') ');
    const result = Number.parseInt(text.slice(text.lastIndexOf('= ') + 2), 10);
    if (end === -1 || Number.isNaN(result) || result < 0) return; // it failed: nothing happened
    const args = text.slice(0, end);
    const opened = /= (\d+)<((?:\\x[0-9a-f]{2})+)>\s*$/.exec(text);
    if (opened !== null) this.#opened(Number(opened[1]), unescape(opened[2]!), args);
    else if (name === 'fsync' || name === 'fdatasync') this.#synced(args, begun);
    else if (/write/.test(name)) this.#written(name, args, result);
    else if (/truncate|fallocate/.test(name)) this.#resized(name, args);
    else this.#named(name, args);
  }

  #is(path: string): boolean {
    return path.startsWith(`${this.#root}/`) || path === this.#root;
  }

  #opened(descriptor: number, path: string, args: string): void {
    if (!this.#is(path)) return;
    this.#at.set(`${descriptor} ${path}`, /O_APPEND/.test(args) ? Number.NaN : 0);
    // Whether it was there before, the model knows.
    if (/O_CREAT/.test(args)) this.operations.push({ kind: 'create', path });
    if (/O_TRUNC/.test(args)) this.operations.push({ kind: 'size', path, size: 0, grow: false });
  }

  #synced(args: string, since: number): void {
    const { path } = descriptorOf(args);
    if (this.#is(path)) this.operations.push({ kind: 'sync', path, since });
  }

  #written(name: string, args: string, result: number): void {
    const { descriptor, path } = descriptorOf(args);
    const said = descriptor === 1 && name === 'write';
    if (!said && !this.#is(path)) return;
    const data = Buffer.concat([...args.matchAll(/"((?:\\x[0-9a-f]{2})*)"/g)].map(([, hex]) => bytesOf(hex!)));
    if (data.length < result) throw new Error(`strace has cut a write to ${path} short`);
    const bytes = data.subarray(0, result);
    if (this.#is(path)) {
      const key = `${descriptor} ${path}`;
      const positioned = name.startsWith('p');
      const offset = positioned ? offsetOf(name, args) : (this.#at.get(key) ?? 0);
      if (Number.isNaN(offset)) throw new Error(`${path} was appended to: the model doesn't know that`);
      if (!positioned) this.#at.set(key, offset + result);
      this.operations.push({ kind: 'write', path, offset, data: bytes });
    } else {
      for (const text of bytes.toString().split('\n').filter(Boolean)) this.operations.push({ kind: 'said', text });
    }
  }

  #resized(name: string, args: string): void {
    const path = name === 'truncate' ? pathsOf(args)[0]! : descriptorOf(args).path;
    if (!this.#is(path)) return;
    const numbers = args.split(', ').slice(1);
    if (name !== 'fallocate') {
      this.operations.push({ kind: 'size', path, size: Number(numbers[0]), grow: false });
      return;
    }
    const mode = modeOf(numbers[0]!);
    const [offset, length] = [Number(numbers[1]), Number(numbers[2])];
    const zeroes = (mode & (FALLOC_PUNCH_HOLE | FALLOC_ZERO_RANGE)) !== 0;
    if (zeroes) this.operations.push({ kind: 'zero', path, offset, length });
    if ((mode & FALLOC_KEEP_SIZE) === 0)
      this.operations.push({ kind: 'size', path, size: offset + length, grow: true });
  }

  #named(name: string, args: string): void {
    const [path = '', to = ''] = pathsOf(args);
    if (!this.#is(path) && !this.#is(to)) return;
    if (name.startsWith('rename')) this.operations.push({ kind: 'rename', path, to });
    else if (/^(unlink|rmdir)/.test(name)) this.operations.push({ kind: 'remove', path });
    else if (name.startsWith('mkdir')) this.operations.push({ kind: 'mkdir', path });
    else if (!name.startsWith('open')) throw new Error(`${name} of ${path}: the model doesn't know that`);
  }
}

function bytesOf(hex: string): Buffer {
  return Buffer.from(hex.replaceAll('\\x', ''), 'hex');
}

function unescape(hex: string): string {
  return bytesOf(hex).toString();
}

/** `20<\x2f…>, …` */
function descriptorOf(args: string): { descriptor: number; path: string } {
  const match = /^(\d+)<((?:\\x[0-9a-f]{2})+)>/.exec(args);
  return { descriptor: Number(match?.[1]), path: unescape(match?.[2] ?? '') };
}

/** Paths among the arguments; those from a directory's descriptor on are made whole. */
function pathsOf(args: string): string[] {
  const out: string[] = [];
  for (const [, from, hex] of args.matchAll(/(?:<((?:\\x[0-9a-f]{2})+)>, )?"((?:\\x[0-9a-f]{2})*)"/g)) {
    const path = unescape(hex!);
    out.push(path.startsWith('/') || from === undefined ? path : `${unescape(from)}/${path}`);
  }
  return out;
}

/** The offset is the last number, before flags where there are any. */
function offsetOf(name: string, args: string): number {
  const numbers = args.slice(args.lastIndexOf('"')).split(', ');
  return Number(numbers.at(name === 'pwritev2' ? -2 : -1));
}

function modeOf(text: string): number {
  const names: Record<string, number> = {
    FALLOC_FL_KEEP_SIZE: FALLOC_KEEP_SIZE,
    FALLOC_FL_PUNCH_HOLE: FALLOC_PUNCH_HOLE,
    FALLOC_FL_ZERO_RANGE: FALLOC_ZERO_RANGE,
  };
  if (/^\d+$/.test(text)) return Number(text);
  return text.split('|').reduce((mode, flag) => {
    const bit = names[flag];
    if (bit === undefined) throw new Error(`fallocate with ${flag}: the model doesn't know that`);
    return mode | bit;
  }, 0);
}
