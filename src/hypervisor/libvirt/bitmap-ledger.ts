import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { writeAtomic } from '../../lib/atomic-file.ts';

/**
 * Which bitmaps we have started in a VM, and on which disks. Needed because a bitmap that was started while the VM runs
 * is in QEMU's memory only, where libvirt shows it to nobody who doesn't know its name (and asking QEMU's monitor
 * behind libvirt's back taints the VM). A name is written here before its bitmap is made and removed after it is gone.
 * A power cut takes such bitmaps with it, so the file is replaced without waiting for the disk, unless the bitmap is one
 * in images. Should the file get lost, every bitmap is found again in its image once the VM is off.
 */
export class BitmapLedger {
  readonly #path: string;
  #entries: Map<string, readonly string[]> | undefined;

  constructor(directory: string) {
    this.#path = join(directory, 'bitmaps.json');
  }

  /** Targets by bitmap name. */
  async entries(): Promise<ReadonlyMap<string, readonly string[]>> {
    return await this.#load();
  }

  async add(name: string, targets: readonly string[]): Promise<void> {
    const entries = await this.#load();
    await this.#store(new Map(entries).set(name, targets));
  }

  /** The same for a bitmap that a power cut leaves in its images, so that its name must not go back to fewer disks. */
  async addDurably(name: string, targets: readonly string[]): Promise<void> {
    const entries = await this.#load();
    await this.#store(new Map(entries).set(name, targets), writeAtomic);
  }

  async remove(name: string): Promise<void> {
    const entries = new Map(await this.#load());
    if (entries.delete(name)) await this.#store(entries);
  }

  async #load(): Promise<Map<string, readonly string[]>> {
    this.#entries ??= await read(this.#path);
    return this.#entries;
  }

  async #store(entries: Map<string, readonly string[]>, replace = replaceAtOnce): Promise<void> {
    await mkdir(dirname(this.#path), { recursive: true });
    await replace(this.#path, `${JSON.stringify(Object.fromEntries(entries))}\n`);
    this.#entries = entries;
  }
}

async function replaceAtOnce(path: string, content: string): Promise<void> {
  const temporary = `${path}.tmp`;
  await writeFile(temporary, content);
  await rename(temporary, path);
}

async function read(path: string): Promise<Map<string, readonly string[]>> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return new Map();
    throw error;
  }
  return new Map(isLedger(text) ? Object.entries(JSON.parse(text) as Record<string, string[]>) : []);
}

/** A power cut may have left the file empty or in pieces. */
function isLedger(text: string): boolean {
  try {
    const json: unknown = JSON.parse(text);
    return typeof json === 'object' && json !== null && Object.values(json).every(Array.isArray);
  } catch {
    return false;
  }
}
