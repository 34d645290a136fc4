import { Failure } from '../../model/failure.ts';
import {
  BITMAP_PREFIX,
  bitmapMissing,
  bitmapNotClosed,
  type BitmapStatus,
  type OpenPointRequest,
  type Point,
} from '../hypervisor.ts';
import type { QsdHost } from './host.ts';
import { bitmapsOff, dropBitmapOff, OffPoint, startBitmapOff } from './powered-off.ts';
import { disksOf, type DefinedDisk, type VmFile } from './vm-file.ts';

/** Change tracking of the VMs of a host, on or off. Of the two image formats only qcow2 can be tracked. */
export class Tracking {
  readonly #host: QsdHost;

  constructor(host: QsdHost) {
    this.#host = host;
  }

  async startBitmap(vmId: string, targets: readonly string[], name: string): Promise<void> {
    requireOurs(name);
    await this.#host.exclusively(vmId, 'start bitmap', async (file) => {
      const disks = tracked(file, targets);
      const status = (await this.#statuses(file, targets)).find((bitmap) => bitmap.name === name);
      if (status?.usable === true) return await this.#extend(file, targets, name);
      // to start it anew would hide that it has forgotten something
      if (status !== undefined) throw lost(file, name);
      await this.#recorded(file, name, targets, () => this.#start(vmId, disks, name));
    });
  }

  async openPoint(request: OpenPointRequest): Promise<Point> {
    const { vmId, targets, since, next } = request;
    for (const name of [since, next]) if (name !== null) requireOurs(name);
    return await this.#host.exclusively(vmId, 'open point', async (found) => {
      let file = found;
      const disks = since === null && next === null ? disksOf(file, targets) : tracked(file, targets);
      await this.#host.closePoint(vmId);
      for (const { target } of disks) {
        if (since !== null && (await this.#bitmaps(file, target)).get(since) !== true) throw lost(file, since);
      }
      // one of this name was left by a try that failed: it began at another instant
      if (next !== null) file = await this.#drop(file, next);
      return await this.#recorded(file, next, targets, async () => {
        const running = this.#host.running.get(vmId);
        if (running !== undefined) return await running.openPoint(disks, request);
        const where = { directory: this.#host.runDirectory, name: `${vmId}-off`, log: this.#host.log };
        const open = await OffPoint.open(disks, request, where);
        this.#host.offPoints.set(vmId, open);
        return open.point;
      });
    });
  }

  async closePoint(vmId: string): Promise<void> {
    await this.#host.exclusively(vmId, 'close point', async () => await this.#host.closePoint(vmId));
  }

  async listBitmaps(vmId: string, targets?: readonly string[]): Promise<BitmapStatus[]> {
    return await this.#host.exclusively(vmId, 'list bitmaps', async (file) => await this.#statuses(file, targets));
  }

  async dropBitmap(vmId: string, name: string): Promise<void> {
    requireOurs(name);
    await this.#host.exclusively(vmId, 'drop bitmap', async (file) => void (await this.#drop(file, name)));
  }

  /** Does what makes a bitmap, with its name written down before; it is taken out again if that fails. */
  async #recorded<T>(
    file: VmFile,
    name: string | null,
    targets: readonly string[],
    work: () => Promise<T>,
  ): Promise<T> {
    if (name === null) return await work();
    await this.#host.files.write({ ...file, bitmaps: { ...file.bitmaps, [name]: [...targets] } });
    try {
      return await work();
    } catch (error) {
      await this.#host.files.write(file);
      throw error;
    }
  }

  async #start(vmId: string, disks: readonly DefinedDisk[], name: string): Promise<void> {
    const running = this.#host.running.get(vmId);
    if (running === undefined) await startBitmapOff(disks, name);
    else await running.startBitmap(disks, name);
  }

  /** Starts a usable bitmap on further disks. Written down when it is made: a crash before has left one that has recorded more, not less. */
  async #extend(file: VmFile, targets: readonly string[], name: string): Promise<void> {
    const further: string[] = [];
    for (const target of targets) if (!(await this.#bitmaps(file, target)).has(name)) further.push(target);
    if (further.length > 0) await this.#start(file.definition.id, tracked(file, further), name);
    const all = [...new Set([...(file.bitmaps[name] ?? []), ...targets])];
    await this.#host.files.write({ ...file, bitmaps: { ...file.bitmaps, [name]: all } });
  }

  async #drop(file: VmFile, name: string): Promise<VmFile> {
    const { id, disks } = file.definition;
    const running = this.#host.running.get(id);
    if (running === undefined) await dropBitmapOff(disks.filter(isTrackable), name);
    else await running.dropBitmap(name);
    if (file.bitmaps[name] === undefined) return file;
    const { [name]: _gone, ...bitmaps } = file.bitmaps;
    const next = { ...file, bitmaps };
    await this.#host.files.write(next);
    return next;
  }

  /** @param of they are judged on these alone. */
  async #statuses(file: VmFile, of?: readonly string[]): Promise<BitmapStatus[]> {
    const statuses = new Map<string, BitmapStatus>();
    const note = (name: string, why: string | undefined) => {
      if (statuses.get(name)?.usable === false) return;
      statuses.set(name, why === undefined ? { name, usable: true } : { name, usable: false, why });
    };
    for (const name of Object.keys(file.bitmaps)) note(name, undefined);
    for (const { target } of file.definition.disks.filter(isTrackable)) {
      const found = await this.#bitmaps(file, target);
      for (const [name, good] of found) {
        const isFlawed = !good && of?.includes(target) !== false;
        if (name.startsWith(BITMAP_PREFIX)) note(name, isFlawed ? bitmapNotClosed(target) : undefined);
      }
      for (const [name, targets] of Object.entries(file.bitmaps)) {
        const isMissing = targets.includes(target) && !found.has(name) && of?.includes(target) !== false;
        if (isMissing) note(name, bitmapMissing(target));
      }
    }
    return [...statuses.values()];
  }

  async #bitmaps(file: VmFile, target: string): Promise<Map<string, boolean>> {
    const running = this.#host.running.get(file.definition.id);
    return running === undefined ? await bitmapsOff(disksOf(file, [target])[0]!) : await running.bitmaps(target);
  }
}

function isTrackable(disk: DefinedDisk): boolean {
  return disk.format === 'qcow2';
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
