import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, rename, rm, stat } from 'node:fs/promises';
import type { Socket } from 'node:net';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../lib/log.ts';
import { Failure } from '../model/failure.ts';
import { endPredecessor, recordProcess } from './predecessor.ts';
import { Qmp } from './qmp.ts';

export interface StorageDaemonOptions {
  /** Run directory for socket and pid file; made if it isn't there. Its path plus `name` stays below 90 bytes. */
  readonly directory: string;
  /** Unique in the directory: names the files and the daemon in errors. */
  readonly name: string;
  /** Nobody finds its NBD server before `appear`: for clients that look for their exports as soon as it is there. Default false. */
  readonly hidden?: boolean;
  readonly log?: Log;
}

/** How a storage daemon ended. */
export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** The end of what it wrote to standard error, at most 4 KiB. */
  readonly lastWords: string;
}

export interface OpenImage {
  /** Name of the block node: letters, digits, `-._`, at most 31. */
  readonly node: string;
  readonly path: string;
  /** As it was declared; never probed. */
  readonly format: 'qcow2' | 'raw';
  readonly readOnly: boolean;
  /** Past the page cache of the host; default false. */
  readonly cacheDirect?: boolean;
  /** `unmap`: trims and zeros of the guest give space back. Default `unmap`. */
  readonly discard?: 'unmap' | 'ignore';
  /** qcow2 only: fewer metadata writes, refcounts rebuilt after a crash. Default false. */
  readonly lazyRefcounts?: boolean;
  /**
   * qcow2 only: what shines through where the image holds nothing. A node that is open, or null for nothing, whatever the
   * image's header says: right for flat disks. Left out: the files that the header names.
   */
  readonly backing?: string | null;
  /** qcow2 only: what its LUKS encryption is opened with. */
  readonly key?: Uint8Array;
}

export interface OpenNbd {
  readonly node: string;
  readonly socketPath: string;
  readonly exportName: string;
  readonly readOnly: boolean;
  /** For so long requests wait for a server that is gone to come back, before they fail; seconds. */
  readonly reconnectDelaySeconds: number;
}

export interface ExportNode {
  readonly node: string;
  readonly exportName: string;
  readonly writable: boolean;
  /** Bitmaps of the node offered as meta contexts `qemu:dirty-bitmap:NAME`. */
  readonly bitmaps?: readonly string[];
}

const START_TIMEOUT_MS = 20_000;
const QUIT_PATIENCE_MS = 20_000;
const SIGNAL_PATIENCE_MS = 5000;
const LAST_WORDS_CHARS = 4096;

/**
 * A qemu-storage-daemon as our child: opens images and exports them by NBD on `nbdSocket`. It hears QMP on a
 * descriptor that it inherits, so nobody else can command it. It ends with the thread that started it, even if that is
 * killed (`setpriv --pdeathsig`: start it from a thread that lives as long as the process).
 */
export class StorageDaemon {
  /** Its NBD server; readable and writable for this user only. */
  readonly nbdSocket: string;
  readonly pid: number;
  readonly qmp: Qmp;
  /** Resolves when it has ended, for whatever reason; never rejects. */
  readonly exited: Promise<Exit>;
  readonly #name: string;
  readonly #child: ChildProcess;
  readonly #pidFile: string;
  /** Where its NBD server listens until it appears on `nbdSocket`. */
  readonly #boundTo: string;
  readonly #exportIds = new Map<string, string>();
  #nextExport = 1;

  private constructor(parts: {
    name: string;
    child: ChildProcess;
    pid: number;
    nbdSocket: string;
    pidFile: string;
    boundTo: string;
    qmp: Qmp;
    exited: Promise<Exit>;
  }) {
    this.#name = parts.name;
    this.#child = parts.child;
    this.pid = parts.pid;
    this.nbdSocket = parts.nbdSocket;
    this.#pidFile = parts.pidFile;
    this.#boundTo = parts.boundTo;
    this.qmp = parts.qmp;
    this.exited = parts.exited;
  }

  /** Ends what a crashed predecessor left under that name, if anything: it has its images open. Failure `disk-engine` when it can't. */
  static async endPredecessor({ directory, name, log }: Omit<StorageDaemonOptions, 'hidden'>): Promise<void> {
    const left = await endPredecessor(join(directory, `${name}.pid`));
    if (left !== undefined) log?.warn({ name, pid: left }, 'ended the qemu-storage-daemon of a predecessor');
  }

  /**
   * Ends what a crashed predecessor left under that name and starts. Failures: `missing-program`, `disk-engine` with the
   * daemon's last words.
   */
  static async start(options: StorageDaemonOptions): Promise<StorageDaemon> {
    const { directory, name, hidden = false, log } = options;
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const nbdSocket = join(directory, `${name}.nbd`);
    const boundTo = hidden ? `${nbdSocket}.new` : nbdSocket;
    const pidFile = join(directory, `${name}.pid`);
    const mark = `addr.type=unix,addr.path=${boundTo.replaceAll(',', ',,')}`;
    await StorageDaemon.endPredecessor(options);
    const command = ['qemu-storage-daemon', '--nbd-server', mark];
    command.push('--chardev', 'socket,id=qmp,fd=3', '--monitor', 'chardev=qmp,mode=control');
    const child = spawn('setpriv', ['--pdeathsig', 'TERM', '--', ...command], {
      stdio: ['ignore', 'ignore', 'pipe', 'pipe'],
    });
    const exited = watch(child, name, log);
    const pid = child.pid;
    if (pid === undefined) throw startFailure(name, await exited);
    const monitor = child.stdio[3] as Socket;
    monitor.on('error', () => undefined); // Qmp and `exited` tell of it
    try {
      await recordProcess(pidFile, pid, mark);
      const qmp = await Qmp.over(monitor, `qemu-storage-daemon ${name}`, { timeoutMs: START_TIMEOUT_MS });
      return new StorageDaemon({ name, child, pid, nbdSocket, pidFile, boundTo, qmp, exited });
    } catch (error) {
      const gone = await Promise.race([exited, delay(500, undefined, { ref: false })]);
      child.kill('SIGKILL');
      monitor.destroy(); // an unread monitor would hold the end of the child back
      const exit = await exited;
      await endPredecessor(pidFile);
      throw gone === undefined ? error : startFailure(name, exit);
    }
  }

  /** Opens an image as a block node. */
  async openImage(image: OpenImage): Promise<void> {
    const { node, path, format, readOnly, cacheDirect = false, discard = 'unmap' } = image;
    const cache = { direct: cacheDirect };
    const block = (await stat(path)).isBlockDevice();
    const file = {
      driver: block ? 'host_device' : 'file',
      filename: path,
      'read-only': readOnly,
      'auto-read-only': false,
      discard,
      cache,
      aio: cacheDirect ? 'native' : 'threads', // native is for O_DIRECT only
    };
    // By QMP alone, over a descriptor that nobody else has: on a command line everybody could read it.
    if (image.key !== undefined) {
      const data = Buffer.from(image.key).toString('base64');
      await this.qmp.execute('object-add', { 'qom-type': 'secret', id: keyName(node), data, format: 'base64' });
    }
    const own = format === 'raw' ? {} : this.#qcow2(image);
    await this.qmp.execute('blockdev-add', {
      driver: format,
      'node-name': node,
      'read-only': readOnly,
      'auto-read-only': false,
      discard,
      cache,
      file,
      ...own,
    });
  }

  /** Opens an NBD export of another server as a block node: a relay that bridges its restarts. */
  async openNbd(source: OpenNbd): Promise<void> {
    await this.qmp.execute('blockdev-add', {
      driver: 'nbd',
      'node-name': source.node,
      'read-only': source.readOnly,
      'auto-read-only': false,
      server: { type: 'unix', path: source.socketPath },
      export: source.exportName,
      'reconnect-delay': source.reconnectDelaySeconds,
    });
  }

  /** Offers a node on `nbdSocket`. A writable export takes the node's only write permission. */
  async exportNode(request: ExportNode): Promise<void> {
    const { node, exportName, writable, bitmaps = [] } = request;
    const id = `export-${this.#nextExport++}`;
    await this.qmp.execute('block-export-add', {
      type: 'nbd',
      id,
      'node-name': node,
      name: exportName,
      writable,
      bitmaps,
    });
    this.#exportIds.set(exportName, id);
  }

  /** A hidden one's NBD server is found on `nbdSocket` from now on, in the place of a predecessor's. */
  async appear(): Promise<void> {
    await rename(this.#boundTo, this.nbdSocket);
  }

  /** Ends an export and its connections; resolves when it is gone. None of that name is no error. */
  async closeExport(exportName: string): Promise<void> {
    const id = this.#exportIds.get(exportName);
    if (id === undefined) return;
    const gone = this.qmp.waitFor('BLOCK_EXPORT_DELETED', (event) => event.data['id'] === id, QUIT_PATIENCE_MS);
    const [deleted] = await Promise.allSettled([this.qmp.execute('block-export-del', { id, mode: 'hard' }), gone]);
    if (deleted.status === 'rejected') throw deleted.reason;
    await gone;
    this.#exportIds.delete(exportName);
  }

  /** Closes a node, its cached metadata written; its exports must be closed before. */
  async closeNode(node: string): Promise<void> {
    await this.qmp.execute('blockdev-del', { 'node-name': node });
  }

  /** Calls `listener` once, when the daemon has ended. */
  onExit(listener: (exit: Exit) => void): void {
    void this.exited.then(listener);
  }

  /** Ends it: everything is flushed, bitmaps are stored. Forced if it doesn't hear. Resolves when it is gone. */
  async stop(): Promise<Exit> {
    const quit = this.qmp.execute('quit', {}, { timeoutMs: QUIT_PATIENCE_MS });
    const asked = quit.then(
      () => delay(QUIT_PATIENCE_MS, undefined, { ref: false }),
      () => undefined, // gone already, or deaf: the signals are next
    );
    for (const step of [() => asked, () => this.#signal('SIGTERM'), () => this.#signal('SIGKILL')]) {
      const exit = await Promise.race([this.exited, step()]);
      if (exit !== undefined) break;
    }
    const exit = await this.exited;
    await this.qmp.close();
    if (this.#boundTo !== this.nbdSocket) await rm(this.nbdSocket, { force: true });
    await endPredecessor(this.#pidFile);
    return exit;
  }

  /** Ends it as a crash does, for tests: nothing is flushed. */
  async kill(): Promise<Exit> {
    this.#child.kill('SIGKILL');
    return await this.exited;
  }

  async #signal(signal: NodeJS.Signals): Promise<void> {
    this.#child.kill(signal);
    await delay(SIGNAL_PATIENCE_MS, undefined, { ref: false });
  }

  #qcow2(image: OpenImage): Record<string, unknown> {
    const { node, key, backing, lazyRefcounts } = image;
    return {
      ...(key === undefined ? {} : { encrypt: { format: 'luks', 'key-secret': keyName(node) } }),
      ...(backing === undefined ? {} : { backing }),
      ...(lazyRefcounts === undefined ? {} : { 'lazy-refcounts': lazyRefcounts }),
    };
  }

  toString(): string {
    return `qemu-storage-daemon ${this.#name} (pid ${this.pid})`;
  }
}

const keyName = (node: string): string => `key-${node}`;

/** Collects the last words and the end of a child. */
async function watch(child: ChildProcess, name: string, log: Log | undefined): Promise<Exit> {
  let lastWords = '';
  child.stderr?.setEncoding('utf8').on('data', (text: string) => {
    lastWords = (lastWords + text).slice(-LAST_WORDS_CHARS);
    log?.warn({ name, said: text.trimEnd() }, 'qemu-storage-daemon');
  });
  try {
    const [code, signal] = (await once(child, 'close')) as [number | null, NodeJS.Signals | null];
    return { code, signal, lastWords };
  } catch (error) {
    return { code: 127, signal: null, lastWords: String(error) }; // setpriv itself couldn't be started
  }
}

function startFailure(name: string, exit: Exit): Failure {
  if (exit.code === 127) {
    const hint = 'Install the Debian packages qemu-system-common (qemu-storage-daemon) and util-linux (setpriv).';
    return new Failure('missing-program', `qemu-storage-daemon ${name} can't be started: ${exit.lastWords}`, { hint });
  }
  const how = exit.signal === null ? `exit code ${exit.code}` : `signal ${exit.signal}`;
  return new Failure('disk-engine', `qemu-storage-daemon ${name} ended at its start (${how}): ${exit.lastWords}`);
}
