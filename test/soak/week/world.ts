import { rmSync } from 'node:fs';
import { insist, isGone, plugging, unplugging } from '../../system/administrator.ts';
import { TwoHosts, VM, protectedNow } from '../../system/two-hosts.ts';

const IMAGES = '/var/lib/libvirt/images';
/** The third disk comes and goes: nothing of the guest is on it. */
export const THIRD = 'vdc';

/** Something that must not be, after which the week can go on. Any other error ends it. */
export class Violation extends Error {}

/** One protected VM, and what its administrator does to it. */
export class Week implements AsyncDisposable {
  readonly hosts: TwoHosts;
  readonly random: (below: number) => number;
  /** What libvirt said each time that it refused a command because one of our jobs was open; the command was given again. */
  readonly refusals: string[] = [];
  #files = 0;
  readonly #refused = (said: string): void => void this.refusals.push(said);

  private constructor(hosts: TwoHosts, random: (below: number) => number) {
    this.hosts = hosts;
    this.random = random;
  }

  /** Begins with the VM protected. @param usr where the hosts' programs are, if they aren't this machine's own. */
  static async begin(name: string, random: (below: number) => number, usr?: string): Promise<Week> {
    const hosts = await TwoHosts.create(name, {
      guest: { rewriteKiB: 64 },
      config: { logLevel: 'info' },
      ...(usr === undefined ? {} : { usr: { a: usr, b: usr } }),
    });
    const week = new Week(hosts, random);
    try {
      const third = week.file(THIRD);
      await week.#image(third);
      await week.virsh(...plugging(third, THIRD));
      await hosts.replicate();
      await protectedNow(hosts.a);
      return week;
    } catch (error) {
      await week[Symbol.asyncDispose]();
      throw error;
    }
  }

  /** A path of the primary that nothing has been at. */
  file(name: string): string {
    return `${IMAGES}/${VM}-${++this.#files}-${name}.qcow2`;
  }

  /** Removes a file of the primary. */
  remove(path: string): void {
    rmSync(this.hosts.a.host.path(path), { force: true });
  }

  async #image(path: string): Promise<void> {
    await this.hosts.a.host.succeed(['qemu-img', 'create', '-q', '-f', 'qcow2', path, '16M']);
  }

  /** A command of the administrator's, again until libvirt isn't busy with one of our jobs. */
  async virsh(...words: string[]): Promise<void> {
    await insist(() => this.hosts.a.host.virsh(...words), this.#refused);
  }

  /** Another program of the administrator's, in the same way. */
  async run(...argv: string[]): Promise<void> {
    await insist(() => this.hosts.a.host.succeed(argv), this.#refused);
  }

  /** Paths of the VM's disks by target, as libvirt has them. */
  async disks(): Promise<Map<string, string>> {
    const list = await this.hosts.a.host.virsh('domblklist', VM);
    return new Map(list.split('\n').map((line) => line.trim().split(/\s+/) as [string, string]));
  }

  /** Plugs a new, empty disk in; gives its path. */
  async plugNew(target: string): Promise<string> {
    const path = this.file(target);
    await this.#image(path);
    await this.plug(path, target);
    return path;
  }

  async plug(path: string, target: string): Promise<void> {
    await this.virsh(...plugging(path, target));
  }

  async unplug(target: string): Promise<void> {
    await this.virsh(...unplugging(target));
    await isGone(this.hosts.a.host, target);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.hosts[Symbol.asyncDispose]();
  }
}
