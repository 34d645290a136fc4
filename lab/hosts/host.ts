import { randomUUID } from 'node:crypto';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { connect } from 'node:net';
import { fileURLToPath } from 'node:url';
import { until } from '../../src/lib/clock.ts';
import { Failure } from '../../src/model/failure.ts';
import { HostProcess, type SpawnOptions } from './host-process.ts';
import { bootHostFiles, outsidePath } from './host-files.ts';
import { Namespace } from './namespace.ts';
import type { Switch } from './switch.ts';

const KINDS = ['mount', 'net', 'pid', 'uts', 'ipc'] as const;
const INIT = fileURLToPath(new URL('host-init.sh', import.meta.url));
const TREE = fileURLToPath(new URL('../../', import.meta.url)).replace(/\/$/, '');
const LIBVIRTD_PID = '/run/libvirt/libvirtd.pid';
const LIBVIRTD_TIMEOUT_MS = 30_000;
const EXEC_TIMEOUT_MS = 60_000;
const VIRSH_TIMEOUT_MS = 60_000;

export interface Executed {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * One machine of a lab, as separate as namespaces make it: own network, processes, host name, libvirtd, /etc/libvirt,
 * /etc/understudy, /var and (new at each start) /run. Everything else of the file system, /tmp included, is shared.
 */
export class LabHost {
  readonly name: string;
  readonly address: string;
  /** The host's own files; use `path`. */
  readonly directory: string;
  readonly #switch: Switch;
  readonly #libvirt: boolean;
  readonly #port: string;
  readonly #usr: string | undefined;
  #namespace: Namespace | undefined;
  #cut = false;
  #limit: number | null = null;

  constructor(options: {
    name: string;
    address: string;
    directory: string;
    switch: Switch;
    libvirt: boolean;
    usr: string | undefined;
  }) {
    this.name = options.name;
    this.address = options.address;
    this.directory = options.directory;
    this.#switch = options.switch;
    this.#port = `to-${options.name}`;
    this.#libvirt = options.libvirt;
    this.#usr = options.usr;
  }

  get running(): boolean {
    return this.#namespace?.alive ?? false;
  }

  /** libvirtd's socket, as seen from outside. */
  get libvirtSocket(): string {
    return this.path('/run/libvirt/libvirt-sock');
  }

  /** For `virsh -c` from outside. */
  get libvirtUri(): string {
    return `qemu+unix:///system?socket=${this.libvirtSocket}`;
  }

  /** What a person types to get a shell in the host. */
  get enterCommand(): string {
    return this.#inside(['sh']).join(' ');
  }

  /** Where a path of the host (/etc/…, /var/…, /run/…) is to be found from outside; other paths are the same. */
  path(path: string): string {
    return outsidePath(this.directory, path);
  }

  /** Power on: /run is empty, the network is plugged, libvirtd starts (and with it what has autostart). */
  async start(): Promise<void> {
    if (this.running) return;
    bootHostFiles(this.directory);
    this.#namespace = await Namespace.start(KINDS, INIT, this.directory, [this.name, TREE, this.#usr ?? '']);
    await this.#switch.plug(this.#port, this.#namespace, this.address);
    if (this.#cut) await this.cut();
    if (this.#limit !== null) await this.limit(this.#limit);
    if (this.#libvirt) await this.startLibvirtd();
  }

  /** Power loss: every process of the host dies at once; its disks keep what was written. */
  async crash(): Promise<void> {
    if (!this.running) return;
    await this.#namespace!.kill();
    this.#namespace = undefined;
    await this.#switch.unplug(this.#port);
  }

  /** Starts a program inside. It goes on when the creator ends, and dies with the host. */
  spawn(argv: readonly string[], options: SpawnOptions = {}): HostProcess {
    return new HostProcess(this.#inside(argv), `${argv[0]} on ${this.name}`, {
      stdio: options.stdio ?? 'ignore',
      env: {
        PATH: '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin',
        HOME: '/var/root',
        LC_ALL: 'C.UTF-8',
        ...options.env,
      },
    });
  }

  /** Runs a program to its end. Never throws for its exit code; `timeout` after `timeoutMs` (default 60 s), with the program killed. */
  async exec(
    argv: readonly string[],
    options: { timeoutMs?: number; input?: string; env?: Readonly<Record<string, string>> } = {},
  ): Promise<Executed> {
    const { timeoutMs = EXEC_TIMEOUT_MS, input = '', env = {} } = options;
    const program = this.spawn(argv, { stdio: ['pipe', 'pipe', 'pipe'], env });
    const { stdin, stdout, stderr } = program.child;
    stdin!.on('error', () => undefined); // a program may end without reading its input
    stdin!.end(input);
    const said = { stdout: '', stderr: '' };
    stdout!.setEncoding('utf8').on('data', (text: string) => (said.stdout += text));
    stderr!.setEncoding('utf8').on('data', (text: string) => (said.stderr += text));
    const closed = new Promise<void>((resolve) => program.child.once('close', () => resolve()));
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      void program.signal('SIGKILL').then(() => undefined);
    }, timeoutMs);
    try {
      const [{ code }] = await Promise.all([program.ended, closed]);
      if (late) throw new Failure('timeout', `${argv.join(' ')} on ${this.name}: not done in ${timeoutMs} ms`);
      return { code, ...said };
    } finally {
      clearTimeout(timer);
    }
  }

  /** Runs a program that must succeed and gives its standard output. */
  async succeed(argv: readonly string[], options: Parameters<LabHost['exec']>[1] = {}): Promise<string> {
    const { code, stdout, stderr } = await this.exec(argv, options);
    if (code !== 0) throw new Failure('internal', `${argv.join(' ')} on ${this.name}: ${(stderr || stdout).trim()}`);
    return stdout;
  }

  /** Gives virsh's standard output without surrounding white space; throws Failure `libvirt` with what it said. */
  async virsh(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.exec(['virsh', '-q', '-c', 'qemu:///system', ...args], {
      timeoutMs: VIRSH_TIMEOUT_MS,
    });
    if (code !== 0) throw new Failure('libvirt', `virsh ${args.join(' ')} on ${this.name}: ${stderr.trim()}`);
    return stdout.trim();
  }

  /** Defines a domain from its XML. */
  async define(xml: string): Promise<void> {
    const file = `/run/define-${randomUUID()}.xml`; // virsh can't open the socket that a child of Node has for input
    await writeFile(this.path(file), xml);
    try {
      await this.virsh('define', file);
    } finally {
      await rm(this.path(file));
    }
  }

  async startLibvirtd(): Promise<void> {
    await this.succeed(['libvirtd', '-d', '-p', LIBVIRTD_PID]);
    await until(() => answers(this.libvirtSocket), {
      timeoutMs: LIBVIRTD_TIMEOUT_MS,
      everyMs: 10,
      onTimeout: () => new Failure('libvirt-down', `libvirtd of ${this.name} does not answer`),
    });
  }

  /** Ends libvirtd by a signal and waits until it is gone; guests go on. */
  async stopLibvirtd(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    const script = 'read -r pid <"$1"; kill -s "$2" "$pid"; while kill -0 "$pid" 2>/dev/null; do sleep 0.01; done';
    await this.succeed(['sh', '-c', script, 'sh', LIBVIRTD_PID, signal.slice(3)]);
  }

  /** Pulls the network cable. It stays out over a crash. */
  async cut(): Promise<void> {
    this.#cut = true;
    if (this.running) await this.#switch.setCable(this.#port, false);
  }

  async heal(): Promise<void> {
    this.#cut = false;
    if (this.running) await this.#switch.setCable(this.#port, true);
  }

  /** Limits the cable in both directions, in Mbit/s; null = as fast as it goes. */
  async limit(mbitPerSecond: number | null): Promise<void> {
    const before = this.#limit;
    this.#limit = mbitPerSecond;
    if (!this.running || (before === null && mbitPerSecond === null)) return;
    await this.#switch.limit(this.#port, this.#namespace!, mbitPerSecond);
  }

  #inside(argv: readonly string[]): string[] {
    if (!this.running) throw new Failure('unreachable', `lab host ${this.name} is off`, { hint: 'Start it first.' });
    return this.#namespace!.enter(argv);
  }
}

function answers(socketPath: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(socketPath);
    socket.once('connect', () => {
      socket.destroy();
      resolve(true);
    });
    socket.once('error', () => resolve(false));
  });
}

/** Directory of a host inside its lab's. */
export function hostDirectory(labDirectory: string, name: string): string {
  return join(labDirectory, name);
}
