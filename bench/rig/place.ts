/** Where a run of the bench keeps its files; gone when it ends, also when it is told to end early. */
import { cpSync, mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { onInterrupt } from '../../lab/hosts/interrupt.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const CACHE = join(ROOT, '.cache');

export class Place {
  /** Disks and logs, on the storage that is measured. */
  readonly data: string;
  /** Sockets: their paths must be short. */
  readonly run: string;
  /** The built daemon, as it was when the bench began: who builds again meanwhile changes nothing. */
  readonly program: string;
  readonly #build: string;
  readonly #closing: (() => Promise<void>)[] = [];
  readonly #forget: () => void;

  /** @param directory on the storage that is to be measured. */
  constructor(directory: string) {
    mkdirSync(directory, { recursive: true });
    this.data = mkdtempSync(join(directory, 'run-'));
    this.run = mkdtempSync(join(tmpdir(), 'us-b-'));
    mkdirSync(CACHE, { recursive: true });
    this.#build = mkdtempSync(join(CACHE, 'bench-build-')); // below the root: its npm packages are found from there
    cpSync(join(ROOT, 'dist'), this.#build, { recursive: true });
    this.program = join(this.#build, 'understudyd.mjs');
    this.#forget = onInterrupt(() => this.#end());
  }

  /** Uses something and ends it, whatever happens. */
  async with<T extends { close(): Promise<void> }, R>(opening: Promise<T>, use: (opened: T) => Promise<R>): Promise<R> {
    const opened = await opening;
    const close = () => opened.close();
    this.#closing.push(close);
    try {
      return await use(opened);
    } finally {
      this.#closing.splice(this.#closing.indexOf(close), 1);
      await close();
    }
  }

  async close(): Promise<void> {
    this.#forget();
    await this.#end();
  }

  async #end(): Promise<void> {
    for (const close of this.#closing.splice(0).toReversed()) await close();
    for (const path of [this.data, this.run, this.#build]) rmSync(path, { recursive: true, force: true });
  }
}
