/**
 * A file system that keeps what was synced, and of the rest whatever it likes: what POSIX promises about a power loss, and no
 * more. It is fed with what programs did (trace.ts) and says what may be there if the power goes now.
 *
 * - Of the writes to a file since its last fsync any may have reached the disk, in whole, in part by sectors, or as length only.
 * - Of the names made, changed and removed in a directory since its last fsync any may have; each for itself.
 * - An fsync counts for what had ended before it began.
 */
import { mkdirSync, rmSync, statSync, truncateSync, writeFileSync, readdirSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import type { Operation } from './trace.ts';

/** What the disk keeps of what wasn't synced. */
export type Loss = 'all' | 'names' | 'data' | 'some' | 'ordered';

/** What it has to do with names. */
type Naming = Exclude<Operation, Change | { kind: 'sync' | 'said' }>;
type Change = Extract<Operation, { kind: 'write' | 'zero' | 'size' }>;
interface Timed<T> {
  readonly at: number;
  readonly value: T;
}

interface FileNode {
  readonly durable: Content;
  pending: Timed<Change>[];
}

interface NameChange {
  readonly removes: string | null;
  readonly sets: { readonly name: string; readonly node: Node } | null;
}

interface DirectoryNode {
  readonly names: Map<string, Node>;
  readonly durable: Map<string, Node>;
  pending: Timed<NameChange>[];
}

type Node = FileNode | DirectoryNode;

const isFile = (node: Node): node is FileNode => !('names' in node);
const newDirectory = (): DirectoryNode => ({ names: new Map(), durable: new Map(), pending: [] });
const SECTOR = 512;

/** Files by their paths, relative; null for a directory. */
export type Remains = Map<string, Buffer | null>;

export class VolatileDisk {
  readonly #root: string;
  readonly #tree = newDirectory();
  /** Syncs that it is to take no notice of: to see that a test would miss them. */
  readonly #ignored: (path: string) => boolean;
  #at = 0;

  constructor(root: string, ignored: (path: string) => boolean = () => false) {
    this.#root = root;
    this.#ignored = ignored;
  }

  /** Takes the next operation of the trace. */
  take(operation: Operation): void {
    const at = this.#at++;
    if (operation.kind === 'said') return;
    if (operation.kind === 'sync') {
      if (!this.#ignored(operation.path)) this.#sync(operation.path, operation.since);
    } else if (operation.kind === 'write' || operation.kind === 'zero' || operation.kind === 'size') {
      const node = this.#find(operation.path);
      if (node !== undefined && isFile(node)) node.pending.push({ at, value: operation }); // else it has no name any more
    } else this.#name(operation, at);
  }

  /** What is there after a power loss now. */
  afterLoss(loss: Loss, random: () => number): Remains {
    const out: Remains = new Map();
    this.#remains(this.#tree, '', loss, random, out);
    return out;
  }

  #remains(directory: DirectoryNode, path: string, loss: Loss, random: () => number, out: Remains): void {
    for (const [name, node] of namesAfter(directory, loss, random)) {
      const at = path === '' ? name : `${path}/${name}`;
      if (isFile(node)) {
        out.set(at, contentAfter(node, loss, random));
      } else {
        out.set(at, null);
        this.#remains(node, at, loss, random, out);
      }
    }
  }

  #parts(path: string): string[] {
    return path
      .slice(this.#root.length + 1)
      .split('/')
      .filter(Boolean);
  }

  #find(path: string): Node | undefined {
    let node: Node | undefined = this.#tree;
    for (const name of this.#parts(path)) {
      if (node === undefined || isFile(node)) return undefined;
      node = node.names.get(name);
    }
    return node;
  }

  #parent(path: string): DirectoryNode {
    const node = this.#find(dirname(path));
    if (node === undefined || isFile(node)) throw new Error(`${dirname(path)} is no directory`);
    return node;
  }

  #name(operation: Naming, at: number): void {
    const { kind, path } = operation;
    const parent = this.#parent(path);
    const name = basename(path);
    if (operation.kind === 'rename') {
      this.#rename(operation, at);
    } else if (kind === 'create' || kind === 'mkdir') {
      if (parent.names.has(name)) return;
      const node = kind === 'mkdir' ? newDirectory() : { durable: new Content(), pending: [] };
      change(parent, { removes: null, sets: { name, node } }, at);
    } else {
      change(parent, { removes: name, sets: null }, at);
    }
  }

  #rename({ path, to }: Extract<Operation, { kind: 'rename' }>, at: number): void {
    const parent = this.#parent(path);
    if (this.#parent(to) !== parent) throw new Error(`${path} moved to another directory`);
    const node = parent.names.get(basename(path));
    if (node === undefined) throw new Error(`${path} was renamed and isn't there`);
    change(parent, { removes: basename(path), sets: { name: basename(to), node } }, at);
  }

  #sync(path: string, since: number): void {
    const node = this.#find(path);
    if (node === undefined) return; // it has no name any more
    if (isFile(node)) {
      for (const { at, value } of node.pending) if (at < since) node.durable.change(value);
      node.pending = node.pending.filter(({ at }) => at >= since);
    } else {
      for (const { at, value } of node.pending) if (at < since) rename(node.durable, value);
      node.pending = node.pending.filter(({ at }) => at >= since);
    }
  }
}

function change(directory: DirectoryNode, naming: NameChange, at: number): void {
  rename(directory.names, naming);
  directory.pending.push({ at, value: naming });
}

function rename(names: Map<string, Node>, { removes, sets }: NameChange): void {
  if (removes !== null) names.delete(removes);
  if (sets !== null) names.set(sets.name, sets.node);
}

function namesAfter(directory: DirectoryNode, loss: Loss, random: () => number): Map<string, Node> {
  const { durable, pending } = directory;
  if (loss === 'all' || loss === 'names') return durable;
  if (loss === 'data') return directory.names;
  const names = new Map(durable);
  const kept = Math.floor(random() * (pending.length + 1));
  const share = random();
  for (const [i, { value }] of pending.entries()) {
    if (loss === 'ordered' ? i < kept : random() < share) rename(names, value);
  }
  return names;
}

function contentAfter({ durable, pending }: FileNode, loss: Loss, random: () => number): Buffer {
  const content = durable.copy();
  if (loss === 'all' || loss === 'data') return content.bytes;
  if (loss === 'names') {
    for (const { value } of pending) content.change(value);
    return content.bytes;
  }
  const share = random();
  for (const { value } of pending) if (random() < share) content.change(torn(value, random));
  // The length may be there without what was written up to it.
  if (random() < 0.2) for (const { value } of pending) content.grow(endOf(value));
  return content.bytes;
}

/** A write of which only some sectors have arrived, as one in four does. */
function torn(operation: Change, random: () => number): Change {
  if (operation.kind !== 'write' || operation.data.length <= SECTOR || random() < 0.75) return operation;
  const from = Math.floor((random() * operation.data.length) / SECTOR) * SECTOR;
  const data = random() < 0.5 ? operation.data.subarray(from) : operation.data.subarray(0, from);
  return { ...operation, data, offset: operation.offset + (data.byteOffset - operation.data.byteOffset) };
}

function endOf(operation: Change): number {
  if (operation.kind === 'write') return operation.offset + operation.data.length;
  return operation.kind === 'size' ? operation.size : 0;
}

class Content {
  #room: Buffer;
  #length: number;

  constructor(bytes: Buffer = Buffer.alloc(0)) {
    this.#room = bytes;
    this.#length = bytes.length;
  }

  get bytes(): Buffer {
    return this.#room.subarray(0, this.#length);
  }

  copy(): Content {
    return new Content(Buffer.from(this.bytes));
  }

  grow(length: number): void {
    if (length <= this.#length) return;
    if (length > this.#room.length) {
      const room = Buffer.alloc(length * 2);
      this.bytes.copy(room);
      this.#room = room;
    }
    this.#room.fill(0, this.#length, length);
    this.#length = length;
  }

  change(operation: Change): void {
    if (operation.kind === 'size') {
      if (operation.grow || operation.size > this.#length) this.grow(operation.size);
      else this.#length = operation.size;
    } else if (operation.kind === 'zero') {
      const { offset, length } = operation;
      if (offset < this.#length) this.#room.fill(0, offset, Math.min(offset + length, this.#length));
    } else if (operation.data.length > 0) {
      this.grow(operation.offset + operation.data.length);
      operation.data.copy(this.#room, operation.offset);
    }
  }
}

/**
 * Puts what is left of a directory's files in its place. A file that is there already keeps its inode, as it would have
 * kept it: the replica takes an image for another one by that.
 */
export function restore(root: string, remains: Remains): void {
  const there = readdirSync(root, { recursive: true, encoding: 'utf8' });
  for (const path of there.toSorted().toReversed()) {
    if (!remains.has(path)) rmSync(join(root, path), { recursive: true, force: true });
  }
  for (const [path, content] of remains) {
    const at = join(root, path);
    if (content === null) {
      mkdirSync(at, { recursive: true });
      continue;
    }
    const length = statSync(at, { throwIfNoEntry: false })?.size;
    if (length !== undefined) truncateSync(at, 0);
    writeFileSync(at, content, { flag: 'a' });
  }
}
