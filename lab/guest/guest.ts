import { copyFileSync, existsSync, readFileSync } from 'node:fs';
import { until } from '../../src/lib/clock.ts';
import { Failure } from '../../src/model/failure.ts';
import type { LabHost } from '../hosts/host.ts';
import { GuestAgent } from './agent.ts';
import { guestFiles } from './build.ts';
import { guestDomainXml } from './domain.ts';
import { type GuestDiskOptions, createGuestDisk, readGuestFile } from './images.ts';
import { type RecordsReport, checkRecords } from './records.ts';
import { Witness } from './witness.ts';

const KERNEL = '/var/lib/libvirt/boot/understudy-guest-kernel';
const INITRD = '/var/lib/libvirt/boot/understudy-guest-initrd';

export interface GuestOptions {
  readonly name: string;
  readonly uuid?: string;
  /** Default 192. */
  readonly memoryMiB?: number;
  /** Records per second, default 5. */
  readonly rate?: number;
  /** KiB per second of random rewrites on each disk, default 256. */
  readonly rewriteKiB?: number;
  /** `A.B.C.D/N` in the guest. */
  readonly address?: string;
  readonly vda?: GuestDiskOptions;
  readonly vdb?: GuestDiskOptions;
  readonly autostart?: boolean;
}

/** Puts the guest's kernel and initrd onto a host. A host that is to run a replica of the guest needs them, too. */
export async function installGuestFiles(host: LabHost): Promise<void> {
  const files = await guestFiles();
  if (!existsSync(host.path(KERNEL))) copyFileSync(files.kernel, host.path(KERNEL));
  if (!existsSync(host.path(INITRD))) copyFileSync(files.initrd, host.path(INITRD));
}

/** The test guest as a domain of a lab host: the same name and paths on whatever host it runs. */
export class LabGuest {
  readonly host: LabHost;
  readonly name: string;
  readonly agent: GuestAgent;

  constructor(host: LabHost, name: string) {
    this.host = host;
    this.name = name;
    this.agent = new GuestAgent(host, name);
  }

  /** Makes disks, installs kernel and initrd, and defines the domain on `host`. It isn't started. */
  static async define(host: LabHost, options: GuestOptions): Promise<LabGuest> {
    const guest = new LabGuest(host, options.name);
    await installGuestFiles(host);
    await createGuestDisk(host.path(guest.disk('vda')), options.vda);
    await createGuestDisk(host.path(guest.disk('vdb')), options.vdb);
    await host.define(
      guestDomainXml({
        name: options.name,
        ...(options.uuid === undefined ? {} : { uuid: options.uuid }),
        kernel: KERNEL,
        initrd: INITRD,
        disks: [
          { target: 'vda', path: guest.disk('vda') },
          { target: 'vdb', path: guest.disk('vdb') },
        ],
        console: guest.console,
        announcements: guest.announcements,
        memoryMiB: options.memoryMiB ?? 192,
        rate: options.rate ?? 5,
        rewriteKiB: options.rewriteKiB ?? 256,
        ...(options.address === undefined ? {} : { address: options.address }),
      }),
    );
    if (options.autostart === true) await host.virsh('autostart', options.name);
    return guest;
  }

  /** Path of a disk of a guest that `define` made, on the host. */
  disk(target: 'vda' | 'vdb'): string {
    return `/var/lib/libvirt/images/${this.name}-${target}.qcow2`;
  }

  /** Path of the console's file, on the host. */
  get console(): string {
    return `/var/log/libvirt/qemu/${this.name}-console.log`;
  }

  /** Path of the workload's announcements, on the host. */
  get announcements(): string {
    return `/var/log/libvirt/qemu/${this.name}-records.log`;
  }

  witness(): Witness {
    return new Witness(this.host.path(this.announcements));
  }

  /** Starts it and waits until the agent answers. */
  async start(): Promise<void> {
    await this.host.virsh('start', this.name);
    await this.agent.wait();
  }

  /** libvirt's word: `running`, `paused`, `shut off`, … */
  state(): Promise<string> {
    return this.host.virsh('domstate', this.name);
  }

  /** Presses the power button and waits until it is off. */
  async shutdown(timeoutMs = 30_000): Promise<void> {
    await this.host.virsh('shutdown', '--mode', 'acpi', this.name);
    await until(async () => (await this.state()) === 'shut off', {
      timeoutMs,
      onTimeout: () => new Failure('shutdown-timeout', `${this.name} on ${this.host.name} did not shut down`),
    });
  }

  /** What the guest itself finds in its records, with the workload stopped meanwhile: both files are read at one instant. */
  async checkInside(): Promise<RecordsReport> {
    const script = 'p=$(cat /run/records.pid); kill -STOP $p && check-records; code=$?; kill -CONT $p; exit $code';
    const { code, stdout, stderr } = await this.agent.exec(['/bin/sh', '-c', script]);
    if (code !== 0) {
      throw new Failure('internal', `check-records in ${this.name}: ${stderr}\n${this.#lastOfConsole()}`);
    }
    return JSON.parse(stdout) as RecordsReport;
  }

  /** The end of what the guest's kernel and workload said; a copy of a guest says it elsewhere. */
  #lastOfConsole(): string {
    const file = this.host.path(this.console);
    return existsSync(file) ? readFileSync(file, 'utf8').split('\n').slice(-40).join('\n') : '';
  }

  /** What the disks of the powered-off guest hold; `paths` (on the host) where they aren't those of `define`. */
  async checkOffline(
    paths: { vda: string; vdb: string } = { vda: this.disk('vda'), vdb: this.disk('vdb') },
  ): Promise<RecordsReport> {
    const read = async (path: string) => checkRecords(await readGuestFile(this.host.path(path), '/records'));
    return { vda: await read(paths.vda), vdb: await read(paths.vdb) };
  }

  /** Changes the workload of the running guest, until its next boot. */
  async setWorkload(workload: { rate: number; rewriteKiB: number }): Promise<void> {
    const line = `rate=${workload.rate} rewrite=${workload.rewriteKiB}`;
    const { code, stderr } = await this.agent.exec([
      '/bin/sh',
      '-c',
      `echo '${line}' >/run/workload.new && mv /run/workload.new /run/workload`,
    ]);
    if (code !== 0) throw new Failure('internal', `workload of ${this.name}: ${stderr}`);
  }
}
