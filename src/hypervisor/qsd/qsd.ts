import { Gate } from '../../lib/gate.ts';
import { silentLog, type Log } from '../../lib/log.ts';
import { Failure } from '../../model/failure.ts';
import { imageInfo } from '../../qemu/image.ts';
import {
  BITMAP_PREFIX,
  type BitmapStatus,
  type DefineRequest,
  type Hypervisor,
  type OpenPointRequest,
  type Point,
  type Vm,
  type VmDisk,
} from '../hypervisor.ts';
import { bitmapsOff, commitOff, dropBitmapOff, OffPoint, startBitmapOff } from './powered-off.ts';
import { RunningVm } from './running-vm.ts';
import { parseDefinition, VmFiles, type DefinedDisk, type VmDefinition, type VmFile } from './vm-file.ts';

export interface QsdOptions {
  /** Where the definitions are: `<id>.json`. */
  readonly directory: string;
  /** Sockets, pid files and scratch images. Its path stays below 50 bytes. */
  readonly runDirectory: string;
  readonly log?: Log;
}

/**
 * VMs without guests: disks opened by qemu-storage-daemon. A VM "runs" while its images are open for writing; it ends
 * with this object, or this process, at the latest. Of the two image formats only qcow2 can be tracked.
 */
export class QsdHypervisor implements Hypervisor {
  readonly #files: VmFiles;
  readonly #runDirectory: string;
  readonly #log: Log;
  readonly #gates = new Map<string, Gate>();
  readonly #running = new Map<string, RunningVm>();
  readonly #offPoints = new Map<string, OffPoint>();

  constructor(options: QsdOptions) {
    this.#files = new VmFiles(options.directory);
    this.#runDirectory = options.runDirectory;
    this.#log = options.log ?? silentLog();
  }

  async listVms(): Promise<Vm[]> {
    return await Promise.all((await this.#files.list()).map((file) => this.#describe(file)));
  }

  async getVm(ref: string): Promise<Vm> {
    return await this.#describe(await this.#files.find(ref));
  }

  /** NBD socket of a running VM: export TARGET is what its guest sees of that disk, for writing too. */
  writableSocket(vmId: string): string {
    const running = this.#running.get(vmId);
    if (running === undefined) throw new Failure('vm-not-running', `VM ${vmId} is off`);
    return running.socketPath;
  }

  async startBitmap(vmId: string, targets: readonly string[], name: string): Promise<void> {
    requireOurs(name);
    await this.#exclusively(vmId, 'start bitmap', async (file) => {
      const disks = tracked(file, targets);
      const status = (await this.#statuses(file)).find((bitmap) => bitmap.name === name);
      if (status?.usable === true) return;
      // to start it anew would hide that it has forgotten something
      if (status !== undefined) throw lost(file, name);
      await this.#recorded(file, name, targets, async () => {
        const running = this.#running.get(vmId);
        if (running === undefined) await startBitmapOff(disks, name);
        else await running.startBitmap(disks, name);
      });
    });
  }

  async openPoint(request: OpenPointRequest): Promise<Point> {
    const { vmId, targets, since, next } = request;
    for (const name of [since, next]) if (name !== null) requireOurs(name);
    return await this.#exclusively(vmId, 'open point', async (found) => {
      let file = found;
      const disks = since === null && next === null ? disksOf(file, targets) : tracked(file, targets);
      await this.#closePoint(vmId);
      for (const { target } of disks) {
        if (since !== null && (await this.#bitmaps(file, target)).get(since) !== true) throw lost(file, since);
      }
      // one of this name was left by a try that failed: it began at another instant
      if (next !== null) file = await this.#drop(file, next);
      return await this.#recorded(file, next, targets, async () => {
        const running = this.#running.get(vmId);
        if (running !== undefined) return await running.openPoint(disks, request);
        const where = { directory: this.#runDirectory, name: `${vmId}-off`, log: this.#log };
        const open = await OffPoint.open(disks, request, where);
        this.#offPoints.set(vmId, open);
        return open.point;
      });
    });
  }

  async closePoint(vmId: string): Promise<void> {
    await this.#exclusively(vmId, 'close point', async () => await this.#closePoint(vmId));
  }

  async listBitmaps(vmId: string): Promise<BitmapStatus[]> {
    return await this.#exclusively(vmId, 'list bitmaps', async (file) => await this.#statuses(file));
  }

  async dropBitmap(vmId: string, name: string): Promise<void> {
    requireOurs(name);
    await this.#exclusively(vmId, 'drop bitmap', async (file) => void (await this.#drop(file, name)));
  }

  async exportDefinition(vmId: string): Promise<string> {
    return JSON.stringify((await this.#files.find(vmId)).definition);
  }

  async define(request: DefineRequest): Promise<void> {
    const { definition, id, name, disks, otherDisks, network } = request;
    const given = parseDefinition(definition);
    const kept = given.disks.filter(({ target }) => otherDisks === 'keep' || disks.has(target));
    const made: VmDefinition = {
      id,
      name,
      disks: kept.map((disk) => ({ ...disk, ...disks.get(disk.target) })),
      network: network === 'as-defined' ? given.network : 'disconnected',
    };
    const replaced = (await this.#files.list()).find((file) => file.definition.id === id);
    await this.#files.write({
      autostart: false,
      bitmaps: {},
      ...replaced,
      definition: parseDefinition(JSON.stringify(made)),
    });
  }

  async undefine(vmId: string): Promise<void> {
    if (this.#running.has(vmId)) throw new Failure('vm-running', `VM ${vmId} runs`);
    await this.#files.remove(vmId);
  }

  async setAutostart(vmId: string, on: boolean): Promise<void> {
    await this.#exclusively(vmId, 'set autostart', async (file) => {
      await this.#files.write({ ...file, autostart: on });
    });
  }

  async start(vmId: string): Promise<void> {
    await this.#exclusively(vmId, 'start', async ({ definition }) => {
      if (this.#running.has(vmId)) return;
      if (this.#offPoints.has(vmId)) throw new Failure('busy', `a point of VM ${definition.name} is open`);
      const running = await RunningVm.start(definition, this.#runDirectory, this.#log);
      this.#running.set(vmId, running);
      running.onEnd(() => {
        if (this.#running.get(vmId) === running) this.#running.delete(vmId);
      });
    });
  }

  async shutdown(vmId: string, timeoutMs: number): Promise<void> {
    await this.#exclusively(vmId, 'shut down', async ({ definition }) => {
      const running = this.#running.get(vmId);
      if (running?.paused === true) {
        throw new Failure('shutdown-timeout', `VM ${definition.name} is paused: it won't shut down in ${timeoutMs} ms`);
      }
      await running?.stop();
      this.#running.delete(vmId);
    });
  }

  async destroy(vmId: string): Promise<void> {
    await this.#exclusively(vmId, 'destroy', async () => {
      await this.#running.get(vmId)?.kill();
      this.#running.delete(vmId);
    });
  }

  /** Only marks the VM: there is no guest to freeze, and who writes its disks has to heed it. */
  async suspend(vmId: string): Promise<void> {
    this.#setPaused(vmId, true);
  }

  async resume(vmId: string): Promise<void> {
    this.#setPaused(vmId, false);
  }

  async commitOverlays(vmId: string, targets: readonly string[]): Promise<void> {
    await this.#exclusively(vmId, 'commit overlays', async (found) => {
      let file = found;
      const running = this.#running.get(vmId);
      if (running?.hasOpenPoint === true || this.#offPoints.has(vmId)) {
        throw new Failure('busy', `a point of VM ${file.definition.name} is open`);
      }
      for (const disk of disksOf(found, targets)) {
        const settle = async (lower: { path: string; format: 'qcow2' | 'raw' }): Promise<void> => {
          const disks = file.definition.disks.map((other) =>
            other.target === disk.target ? { ...other, ...lower } : other,
          );
          file = { ...file, definition: { ...file.definition, disks } };
          await this.#files.write(file);
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

  /** Ends every running VM and open point; bitmaps are stored. */
  async close(): Promise<void> {
    const ids = new Set([...this.#running.keys(), ...this.#offPoints.keys()]);
    for (const id of ids) {
      await this.#closePoint(id);
      await this.#running.get(id)?.stop();
    }
    this.#running.clear();
  }

  async #closePoint(vmId: string): Promise<void> {
    await this.#offPoints.get(vmId)?.close();
    this.#offPoints.delete(vmId);
    await this.#running.get(vmId)?.closePoint();
  }

  /** Does what makes a bitmap, with its name written down before; it is taken out again if that fails. */
  async #recorded<T>(
    file: VmFile,
    name: string | null,
    targets: readonly string[],
    work: () => Promise<T>,
  ): Promise<T> {
    if (name === null) return await work();
    await this.#files.write({ ...file, bitmaps: { ...file.bitmaps, [name]: [...targets] } });
    try {
      return await work();
    } catch (error) {
      await this.#files.write(file);
      throw error;
    }
  }

  async #drop(file: VmFile, name: string): Promise<VmFile> {
    const { id, disks } = file.definition;
    const running = this.#running.get(id);
    if (running === undefined) await dropBitmapOff(disks.filter(isTrackable), name);
    else await running.dropBitmap(name);
    if (file.bitmaps[name] === undefined) return file;
    const { [name]: _gone, ...bitmaps } = file.bitmaps;
    const next = { ...file, bitmaps };
    await this.#files.write(next);
    return next;
  }

  async #statuses(file: VmFile): Promise<BitmapStatus[]> {
    const usable = new Map(Object.keys(file.bitmaps).map((name) => [name, true]));
    for (const { target } of file.definition.disks.filter(isTrackable)) {
      const found = await this.#bitmaps(file, target);
      for (const [name, good] of found) {
        if (name.startsWith(BITMAP_PREFIX)) usable.set(name, good && usable.get(name) !== false);
      }
      for (const [name, targets] of Object.entries(file.bitmaps)) {
        if (targets.includes(target) && !found.has(name)) usable.set(name, false);
      }
    }
    return [...usable].map(([name, good]) => ({ name, usable: good }));
  }

  async #bitmaps(file: VmFile, target: string): Promise<Map<string, boolean>> {
    const running = this.#running.get(file.definition.id);
    return running === undefined ? await bitmapsOff(disksOf(file, [target])[0]!) : await running.bitmaps(target);
  }

  async #describe({ definition, autostart }: VmFile): Promise<Vm> {
    const { id, name } = definition;
    const running = this.#running.get(id);
    const state = running === undefined ? 'off' : running.paused ? 'paused' : 'running';
    return { id, name, state, autostart, disks: await Promise.all(definition.disks.map(describeDisk)) };
  }

  #setPaused(vmId: string, paused: boolean): void {
    const running = this.#running.get(vmId);
    if (running === undefined) throw new Failure('vm-not-running', `VM ${vmId} is off`);
    running.paused = paused;
  }

  async #exclusively<T>(vmId: string, what: string, work: (file: VmFile) => Promise<T>): Promise<T> {
    const gate = this.#gates.get(vmId) ?? new Gate();
    this.#gates.set(vmId, gate);
    return await gate.run(what, async () => await work(await this.#files.find(vmId)));
  }
}

function isTrackable(disk: DefinedDisk): boolean {
  return disk.format === 'qcow2';
}

/** Size 0 where there is no image: the definition of a locked VM names none. */
async function describeDisk({ target, path, format }: DefinedDisk): Promise<VmDisk> {
  try {
    const { size } = await imageInfo(path, { format, inUse: true });
    const unsupported = format === 'qcow2' ? {} : { unsupported: `${format} images hold no bitmaps` };
    return { target, path, format, size, ...unsupported };
  } catch (error) {
    if (!(error instanceof Failure)) throw error;
    return { target, path, format, size: 0, unsupported: error.message };
  }
}

function disksOf({ definition }: VmFile, targets: readonly string[]): DefinedDisk[] {
  return targets.map((target) => {
    const disk = definition.disks.find((candidate) => candidate.target === target);
    if (disk === undefined) throw new Failure('not-found', `VM ${definition.name} has no disk ${target}`);
    return disk;
  });
}

function tracked(file: VmFile, targets: readonly string[]): DefinedDisk[] {
  const disks = disksOf(file, targets);
  const raw = disks.find((disk) => !isTrackable(disk));
  if (raw === undefined) return disks;
  throw new Failure('disk-unsupported', `disk ${raw.target} of VM ${file.definition.name} is raw: it holds no bitmaps`);
}

function requireOurs(name: string): void {
  if (name.startsWith(BITMAP_PREFIX)) return;
  throw new Failure('bad-request', `bitmap "${name}" is not ours: its name doesn't begin with ${BITMAP_PREFIX}`);
}

function lost({ definition }: VmFile, name: string): Failure {
  return new Failure('tracking-lost', `bitmap ${name} of VM ${definition.name} can't be relied on; drop it first`);
}
