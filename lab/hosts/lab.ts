import { join } from 'node:path';
import { Failure } from '../../src/model/failure.ts';
import { LabHost, hostDirectory } from './host.ts';
import { type QemuUser, createHostFiles } from './host-files.ts';
import { onInterrupt } from './interrupt.ts';
import {
  claimLabDirectory,
  leftLabDirectories,
  readLabRecord,
  removeLabDirectory,
  removeLabDirectorySync,
  writeLabRecord,
} from './lab-directory.ts';
import { Switch } from './switch.ts';

export interface LabOptions {
  /** Says whose it is in `Lab.clean`'s report. */
  readonly name?: string;
  /** Names of the hosts: lower-case letters, digits and hyphens, at most 12 characters. */
  readonly hosts: readonly string[];
  /** User that QEMU runs as; default `libvirt-qemu`, as on a real host. */
  readonly qemuUser?: QemuUser;
  /** By host: a directory that is laid over its /usr, with other versions of programs in it. */
  readonly usr?: Readonly<Record<string, string>>;
  /** False: hosts without libvirtd (start in about 50 ms). Default true. */
  readonly libvirt?: boolean;
}

const HOST_NAME = /^[a-z][a-z0-9-]{0,11}$/;
const MOST_HOSTS = 99;

/**
 * Isolated hosts on this machine behind a switch of their own, for tests and the demo. Needs root. Several labs live
 * side by side. It is removed by `dispose`, by an interrupt (SIGINT, SIGTERM, SIGHUP) or the end of its creator;
 * after a kill -9 of the creator by `Lab.clean` in any other process.
 */
export class Lab implements AsyncDisposable {
  readonly directory: string;
  readonly name: string;
  readonly hosts: readonly LabHost[];
  readonly #switch: Switch;
  readonly #forget: () => void;
  #disposed = false;

  private constructor(directory: string, name: string, lab: { hosts: LabHost[]; switch: Switch; forget: () => void }) {
    this.directory = directory;
    this.name = name;
    this.hosts = lab.hosts;
    this.#switch = lab.switch;
    this.#forget = lab.forget;
  }

  static async create(options: LabOptions): Promise<Lab> {
    const { name = 'lab', hosts: names, qemuUser = 'libvirt-qemu', libvirt = true, usr = {} } = options;
    const wrong = names.find((host, at) => !HOST_NAME.test(host) || host === 'switch' || names.indexOf(host) !== at);
    if (wrong !== undefined) throw new Failure('bad-request', `"${wrong}" can't be the name of a lab host`);
    if (names.length > MOST_HOSTS) throw new Failure('bad-request', `a lab has at most ${MOST_HOSTS} hosts`);
    if (process.getuid?.() !== 0) {
      throw new Failure('bad-request', 'isolated hosts can be made by root only', { hint: 'Run this as root.' });
    }

    const { index, directory } = claimLabDirectory(name, names);
    const forget = removeWithCreator(directory);
    try {
      const identities = names.map((host, at) => ({ name: host, address: `10.77.${index}.${at + 1}` }));
      const network = await Switch.start(join(directory, 'switch'));
      const hosts = identities.map((identity) => {
        const own = hostDirectory(directory, identity.name);
        createHostFiles(own, identity, identities, qemuUser);
        return new LabHost({ ...identity, directory: own, switch: network, libvirt, usr: usr[identity.name] });
      });
      await Promise.all(hosts.map((host) => host.start()));
      return new Lab(directory, name, { hosts, switch: network, forget });
    } catch (error) {
      await removeLabDirectory(directory);
      forget();
      throw error;
    }
  }

  host(name: string): LabHost {
    const host = this.hosts.find((candidate) => candidate.name === name);
    if (host === undefined) throw new Failure('not-found', `this lab has no host "${name}"`);
    return host;
  }

  /** From now on the lab outlives its creator; `Lab.clean({ kept: true })` removes it then. */
  keep(): void {
    writeLabRecord(this.directory, { ...readLabRecord(this.directory)!, kept: true });
    this.#forget();
  }

  /** Kills everything in it and removes it. Doing it twice is no error. */
  async dispose(): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await Promise.all(this.hosts.map((host) => host.crash()));
    await this.#switch.stop();
    await removeLabDirectory(this.directory);
    this.#forget();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  /**
   * Removes what labs left whose creator is dead; with `kept`, also those that were kept on purpose; with `name`, only
   * those of that name. Gives what it removed, one line a lab.
   */
  static async clean(options: { kept?: boolean; name?: string } = {}): Promise<string[]> {
    const removed: string[] = [];
    for (const directory of leftLabDirectories({ kept: options.kept ?? false })) {
      const record = readLabRecord(directory);
      if (options.name !== undefined && record?.name !== options.name) continue;
      await removeLabDirectory(directory);
      removed.push(`${directory} (${record?.name ?? 'unfinished'}: ${record?.hosts.join(', ') ?? 'no hosts'})`);
    }
    return removed;
  }
}

/** Ties a lab directory's life to this process; gives the function that unties it. */
function removeWithCreator(directory: string): () => void {
  const isOurs = () => readLabRecord(directory)?.creator.pid === process.pid;
  const atExit = () => {
    if (isOurs()) removeLabDirectorySync(directory);
  };
  process.on('exit', atExit);
  const forgetInterrupt = onInterrupt(async () => {
    if (isOurs()) await removeLabDirectory(directory);
  });
  return () => {
    process.off('exit', atExit);
    forgetInterrupt();
  };
}
