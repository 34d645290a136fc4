import { dirname } from 'node:path';
import { run } from '../../lib/process.ts';
import { Failure } from '../../model/failure.ts';
import type { Versions } from '../../model/versions.ts';
import { foreignBitmaps } from '../../qemu/foreign-bitmaps.ts';
import { imageSize } from '../../qemu/image-size.ts';
import {
  BITMAP_PREFIX,
  type AdaptRequest,
  type BitmapStatus,
  type DefineRequest,
  type DiskSource,
  type Hypervisor,
  type OpenPointRequest,
  type Point,
  type Vm,
  type VmInspection,
  type VmStatus,
  type VmDisk,
} from '../hypervisor.ts';
import type { QsdHost } from './host.ts';
import { commitOff } from './powered-off.ts';
import { RunningVm } from './running-vm.ts';
import { Tracking } from './tracking.ts';
import { disksOf, parseDefinition, type DefinedDisk, type VmDefinition, type VmFile } from './vm-file.ts';

/** VMs without guests: disks opened by qemu-storage-daemon. */
export class QsdHypervisor implements Hypervisor {
  readonly #host: QsdHost;
  readonly #tracking: Tracking;

  constructor(host: QsdHost) {
    this.#host = host;
    this.#tracking = new Tracking(host);
  }

  async vmStatus(vmId: string): Promise<VmStatus> {
    return this.#status(await this.#host.files.find(vmId));
  }

  async inspect(vmId: string): Promise<VmInspection> {
    const { definition } = await this.#host.files.find(vmId);
    const images = definition.disks.filter(({ format }) => format === 'qcow2');
    return { foreignCheckpoints: [], foreignBitmaps: await foreignBitmaps(images, BITMAP_PREFIX) };
  }

  /** VMs of this hypervisor are our own processes. */
  async vmUser(): Promise<undefined> {
    return undefined;
  }

  async versions(): Promise<Versions> {
    const { stdout } = await run('qemu-storage-daemon', ['--version']);
    return { 'qemu-storage-daemon': /version (\S+)/.exec(stdout)?.[1] ?? 'unknown' };
  }

  async listVms(): Promise<Vm[]> {
    return await Promise.all((await this.#host.files.list()).map((file) => this.#describe(file)));
  }

  async getVm(ref: string): Promise<Vm> {
    return await this.#describe(await this.#host.files.find(ref));
  }

  async startBitmap(vmId: string, targets: readonly string[], name: string): Promise<void> {
    await this.#tracking.startBitmap(vmId, targets, name);
  }

  async openPoint(request: OpenPointRequest): Promise<Point> {
    return await this.#tracking.openPoint(request);
  }

  async closePoint(vmId: string): Promise<void> {
    await this.#tracking.closePoint(vmId);
  }

  async listBitmaps(vmId: string, targets?: readonly string[]): Promise<BitmapStatus[]> {
    return await this.#tracking.listBitmaps(vmId, targets);
  }

  async dropBitmap(vmId: string, name: string): Promise<void> {
    await this.#tracking.dropBitmap(vmId, name);
  }

  async exportDefinition(vmId: string): Promise<string> {
    return JSON.stringify((await this.#host.files.find(vmId)).definition);
  }

  /** A VM without a guest is its disks. */
  async factsOf(definition: string): Promise<Readonly<Record<string, string>>> {
    const { disks, network } = parseDefinition(definition);
    return { network, ...Object.fromEntries(disks.map(({ target }) => [`disk ${target}`, ''])) };
  }

  async adaptDefinition({ definition, own, targets }: AdaptRequest): Promise<string> {
    const given = parseDefinition(definition);
    const replicated = given.disks.filter(({ target }) => targets.includes(target));
    const ours = parseDefinition(own).disks.filter(({ target }) => !targets.includes(target));
    return JSON.stringify({ ...given, disks: [...replicated, ...ours] });
  }

  /** Disks are all that such a VM needs. */
  async lackingFor(): Promise<readonly string[]> {
    return [];
  }

  async define(request: DefineRequest): Promise<void> {
    const { definition, id, name, disks, otherDisks, without, network } = request;
    const given = parseDefinition(definition);
    const stays = ({ path }: { path: string }) =>
      otherDisks === 'keep' && (without === undefined || dirname(path) !== without);
    const kept = given.disks.filter((disk) => disks.has(disk.target) || stays(disk));
    const added = [...disks].filter(([target]) => !given.disks.some((disk) => disk.target === target));
    const made: VmDefinition = {
      id,
      name,
      disks: [
        ...kept.map((disk) => {
          const { path, format } = disks.get(disk.target) ?? disk; // all are plain here
          return { ...disk, path, format };
        }),
        ...added.map(([target, { path, format }]) => ({ target, path, format })),
      ],
      network: network === 'as-defined' ? given.network : 'disconnected',
    };
    await this.#host.inTurn(id, 'define', async () => {
      const replaced = (await this.#host.files.list()).find((file) => file.definition.id === id);
      await this.#host.files.write({
        autostart: false,
        bitmaps: {},
        ...replaced,
        definition: parseDefinition(JSON.stringify(made)),
      });
    });
  }

  async undefine(vmId: string): Promise<void> {
    if (this.#host.running.has(vmId)) throw new Failure('vm-running', `VM ${vmId} runs`);
    await this.#host.files.remove(vmId);
  }

  async setAutostart(vmId: string, on: boolean): Promise<void> {
    await this.#host.exclusively(vmId, 'set autostart', async (file) => {
      await this.#host.files.write({ ...file, autostart: on });
    });
  }

  async start(vmId: string): Promise<void> {
    await this.#host.exclusively(vmId, 'start', async ({ definition }) => {
      if (this.#host.running.has(vmId)) return;
      if (this.#host.offPoints.has(vmId)) throw new Failure('busy', `a point of VM ${definition.name} is open`);
      const running = await RunningVm.start(definition, this.#host.runDirectory, this.#host.log);
      this.#host.running.set(vmId, running);
      running.onEnd(() => {
        if (this.#host.running.get(vmId) === running) this.#host.running.delete(vmId);
      });
    });
  }

  async shutdown(vmId: string, timeoutMs: number): Promise<void> {
    await this.#host.exclusively(vmId, 'shut down', async ({ definition }) => {
      const running = this.#host.running.get(vmId);
      if (running?.paused === true) {
        throw new Failure('shutdown-timeout', `VM ${definition.name} is paused: it won't shut down in ${timeoutMs} ms`);
      }
      await running?.stop();
      this.#host.running.delete(vmId);
    });
  }

  /** Bitmaps outlive it, as they do when libvirt ends QEMU; see `QsdHost.crash` for a death that they don't. */
  async destroy(vmId: string): Promise<void> {
    if (!(await this.#host.files.list()).some(({ definition }) => definition.id === vmId)) return;
    await this.#host.exclusively(vmId, 'destroy', async () => {
      await this.#host.running.get(vmId)?.stop();
      this.#host.running.delete(vmId);
    });
  }

  /** Only marks the VM: there is no guest to freeze, and who writes its disks has to heed it. */
  async suspend(vmId: string): Promise<void> {
    this.#host.runningVm(vmId).paused = true;
  }

  async resume(vmId: string): Promise<void> {
    this.#host.runningVm(vmId).paused = false;
  }

  async setNetwork(): Promise<void> {
    // no guest, no network
  }

  async commitOverlays(vmId: string, targets: readonly string[]): Promise<void> {
    await this.#host.exclusively(vmId, 'commit overlays', async (found) => {
      let file = found;
      const running = this.#host.running.get(vmId);
      if (running?.hasOpenPoint === true || this.#host.offPoints.has(vmId)) {
        throw new Failure('busy', `a point of VM ${file.definition.name} is open`);
      }
      for (const disk of disksOf(found, targets)) {
        const settle = async (lower: DiskSource): Promise<void> => {
          const disks = file.definition.disks.map((other) =>
            other.target === disk.target ? { ...other, ...lower } : other,
          );
          file = { ...file, definition: { ...file.definition, disks } };
          await this.#host.files.write(file);
        };
        if (running !== undefined) {
          await running.commitOverlay(disk.target, settle);
        } else {
          const lower = await commitOff(disk);
          if (lower !== undefined) await settle(lower);
        }
      }
    });
  }

  async close(): Promise<void> {
    // VMs, bitmaps and open points are the host's
  }

  #status({ definition, autostart }: VmFile): VmStatus {
    const running = this.#host.running.get(definition.id);
    const state = running === undefined ? 'off' : running.paused ? 'paused' : 'running';
    // whoever writes the disks sees the errors there
    return { state, pausedByIoError: false, autostart };
  }

  async #describe(file: VmFile): Promise<Vm> {
    const { id, name, disks } = file.definition;
    return { id, name, ...this.#status(file), besidesDisks: [], disks: await Promise.all(disks.map(describeDisk)) };
  }
}

/** Size 0 where there is no image: the definition of a locked VM names none. */
async function describeDisk({ target, path, format }: DefinedDisk): Promise<VmDisk> {
  try {
    const size = await imageSize({ path, format });
    const unsupported =
      format === 'qcow2' ? {} : { unsupported: `${format} images hold no bitmaps`, raw: true as const };
    return { target, path, format, size, ...unsupported };
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return { target, path, format, size: 0, unsupported: error.message };
  }
}
