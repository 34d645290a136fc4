import assert from 'node:assert/strict';
import { chmodSync, copyFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { guestFiles } from '../../lab/guest/build.ts';
import { guestDomainXml } from '../../lab/guest/domain.ts';
import { createGuestDisk, readGuestFile } from '../../lab/guest/images.ts';
import { checkRecords, problems } from '../../lab/guest/records.ts';
import { Witness } from '../../lab/guest/witness.ts';
import type { LabHost } from '../../lab/hosts/host.ts';
import { Lab } from '../../lab/hosts/lab.ts';
import { LibvirtHypervisor } from '../../src/hypervisor/libvirt/libvirt.ts';
import { until } from '../../src/lib/clock.ts';
import { silentLog } from '../../src/lib/log.ts';
import type { HypervisorFixture } from './hypervisor.ts';

const DISK_MIB = 64;

/** A real guest under a libvirtd of its own, whose disks this process can read at the same paths. */
export class LibvirtFixture implements HypervisorFixture {
  static readonly vmId = '6f1c7c1e-3f4b-4c58-9d55-00000000c0f0';
  static readonly vmName = 'conformance';
  readonly vmId = LibvirtFixture.vmId;
  readonly targets = ['vda', 'vdb'];
  readonly hypervisor: LibvirtHypervisor;
  readonly host: LabHost;
  /** For images and whatever else libvirt-qemu must read; the same inside and outside the host. */
  readonly directory: string;
  readonly #lab: Lab;
  readonly #witness: Witness;
  readonly #instances: LibvirtHypervisor[] = [];

  private constructor(lab: Lab, directory: string) {
    this.#lab = lab;
    this.host = lab.hosts[0]!;
    this.directory = directory;
    this.#witness = new Witness(join(directory, 'records'));
    this.hypervisor = this.another();
  }

  static async create(): Promise<LibvirtFixture> {
    const files = await guestFiles();
    const lab = await Lab.create({ name: 'libvirt-test', hosts: ['host'] });
    const directory = mkdtempSync(join(tmpdir(), 'us-lv-'));
    const fixture = new LibvirtFixture(lab, directory);
    try {
      chmodSync(directory, 0o777); // QEMU's user writes the guest's announcements into it
      for (const name of ['kernel', 'initrd'] as const) copyFileSync(files[name], join(directory, name));
      const disks = fixture.targets.map((target) => ({ target, path: fixture.disk(target) }));
      for (const { path } of disks) await createGuestDisk(path, { sizeMiB: DISK_MIB });
      await fixture.host.define(fixture.definition(disks));
      await fixture.hypervisor.start(fixture.vmId);
      return fixture;
    } catch (error) {
      await fixture.dispose();
      throw error;
    }
  }

  definition(disks: readonly { target: string; path: string }[]): string {
    return guestDomainXml({
      name: LibvirtFixture.vmName,
      uuid: this.vmId,
      kernel: join(this.directory, 'kernel'),
      initrd: join(this.directory, 'initrd'),
      disks,
      console: join(this.directory, 'console'),
      announcements: join(this.directory, 'records'),
      memoryMiB: 192,
      rate: 10,
      rewriteKiB: 1024,
    });
  }

  disk(target: string): string {
    return join(this.directory, `${target}.qcow2`);
  }

  another(pointDirectory: string = join(this.directory, 'points')): LibvirtHypervisor {
    const options = { socketPath: this.host.libvirtSocket, pointDirectory, log: silentLog() };
    const instance = new LibvirtHypervisor(options);
    this.#instances.push(instance);
    return instance;
  }

  async change(): Promise<void> {
    const begun = Date.now();
    const written = () => this.#witness.completed.filter(({ notBefore }) => notBefore >= begun).length >= 3;
    const onTimeout = () => new Error('the guest writes no records');
    await until(written, { timeoutMs: 60_000, everyMs: 20, onTimeout });
  }

  async checkOneInstant(contents: ReadonlyMap<string, Buffer>): Promise<void> {
    const records = async (target: string) => {
      const directory = join(this.directory, `check-${target}`);
      mkdirSync(directory);
      const raw = join(directory, 'raw');
      writeFileSync(raw, contents.get(target)!);
      const report = checkRecords(await readGuestFile(raw, '/records', 'raw'));
      rmSync(directory, { recursive: true });
      return report;
    };
    const report = { vda: await records('vda'), vdb: await records('vdb') };
    assert.deepEqual(problems(report), []);
    assert.ok(report.vda.count > 0);
  }

  readonly crash = async (): Promise<void> => {
    await this.host.succeed(['sh', '-c', `kill -9 $(cat /run/libvirt/qemu/${LibvirtFixture.vmName}.pid)`]);
    await until(async () => (await this.hypervisor.getVm(this.vmId)).state === 'off', {
      timeoutMs: 30_000,
      onTimeout: () => new Error('libvirt does not see that QEMU is gone'),
    });
  };

  async dispose(): Promise<void> {
    await Promise.all(this.#instances.map((instance) => instance.close()));
    this.#witness.stop();
    await this.#lab.dispose();
    rmSync(this.directory, { recursive: true, force: true });
  }
}
