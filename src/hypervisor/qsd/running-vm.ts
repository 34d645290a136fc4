import { copyFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { Log } from '../../lib/log.ts';
import { asFailure, Failure } from '../../model/failure.ts';
import { emptyImage } from '../../qemu/empty-image.ts';
import { imageSize } from '../../qemu/image-size.ts';
import { StorageDaemon } from '../../qemu/storage-daemon.ts';
import type { DiskSource, OpenPointRequest, Point, PointExport } from '../hypervisor.ts';
import { addBitmap, bitmapsOf, hasJob, hasNode, mergeBitmap, removeBitmap, transaction } from './block-nodes.ts';
import { commitLive } from './live-commit.ts';
import type { DefinedDisk, VmDefinition } from './vm-file.ts';

/** Copy of the bitmap that an open point shows; the original goes on recording. */
const FROZEN = 'frozen';
const JOB_END_MS = 30_000;

/**
 * A "running" VM: a storage daemon that has its images open for writing and offers each as an NBD export named by its
 * target. Whoever writes there is the guest.
 */
export class RunningVm {
  paused = false;
  readonly #definition: VmDefinition;
  readonly #daemon: StorageDaemon;
  readonly #directory: string;
  /** Block node that is written now, by target. */
  readonly #nodes = new Map<string, string>();
  #open: readonly DefinedDisk[] = [];

  private constructor(definition: VmDefinition, daemon: StorageDaemon, directory: string) {
    this.#definition = definition;
    this.#daemon = daemon;
    this.#directory = directory;
  }

  /** Fails when an image isn't there, or somebody else has it open. */
  static async start(definition: VmDefinition, directory: string, log: Log): Promise<RunningVm> {
    const daemon = await StorageDaemon.start({ directory, name: definition.id, log });
    const vm = new RunningVm(definition, daemon, directory);
    try {
      for (const { target, path, format } of definition.disks) {
        await daemon.openImage({ node: target, path, format, readOnly: false });
        await daemon.exportNode({ node: target, exportName: target, writable: true });
        vm.#nodes.set(target, target);
      }
      return vm;
    } catch (error) {
      await daemon.stop();
      throw asFailure(error, 'io');
    }
  }

  get socketPath(): string {
    return this.#daemon.nbdSocket;
  }

  get hasOpenPoint(): boolean {
    return this.#open.length > 0;
  }

  /** Calls back when it has ended, in whatever way. */
  onEnd(listener: () => void): void {
    this.#daemon.onExit(listener);
  }

  /** Ends as a guest's shut-down does: everything is flushed, bitmaps are stored. */
  async stop(): Promise<void> {
    await this.closePoint();
    await this.#daemon.stop();
  }

  /** Ends as a power cut does: bitmaps that aren't stored are lost. */
  async kill(): Promise<void> {
    await this.#daemon.kill();
    await this.#daemon.stop();
    for (const { target } of this.#open) await rm(this.#scratch(target), { force: true });
    this.#open = [];
  }

  async startBitmap(disks: readonly DefinedDisk[], name: string): Promise<void> {
    await transaction(
      this.#daemon.qmp,
      disks.map(({ target }) => addBitmap(this.#node(target), name, { persistent: true })),
    );
  }

  /** Bitmaps of a disk by name, and whether they can be relied on. */
  async bitmaps(target: string): Promise<Map<string, boolean>> {
    const bitmaps = await bitmapsOf(this.#daemon.qmp, this.#node(target));
    return new Map(bitmaps.filter(({ name }) => name !== FROZEN).map((bitmap) => [bitmap.name, !bitmap.inconsistent]));
  }

  async dropBitmap(name: string): Promise<void> {
    for (const [target, node] of this.#nodes) {
      if ((await this.bitmaps(target)).has(name)) await transaction(this.#daemon.qmp, [removeBitmap(node, name)]);
    }
  }

  /** All disks at one instant. The caller has seen that `since` is there and `next` isn't. */
  async openPoint(disks: readonly DefinedDisk[], request: OpenPointRequest): Promise<Point> {
    const { since, next } = request;
    this.#open = disks;
    try {
      const sizes = new Map<string, number>();
      for (const disk of disks) sizes.set(disk.target, await this.#prepareScratch(disk));
      const instant = Date.now();
      await transaction(
        this.#daemon.qmp,
        disks.flatMap((disk) => this.#instantActions(disk.target, since, next)),
      );
      const instantEnd = Date.now();
      const exports: PointExport[] = [];
      for (const { target } of disks) exports.push(await this.#exportPoint(target, sizes.get(target)!, since));
      return { instant, instantEnd, exports, scratchFiles: disks.map(({ target }) => this.#scratch(target)) };
    } catch (error) {
      await this.closePoint();
      if (next !== null) await this.dropBitmap(next);
      throw asFailure(error, 'disk-engine');
    }
  }

  async closePoint(): Promise<void> {
    const { qmp } = this.#daemon;
    for (const { target } of this.#open) {
      await this.#daemon.closeExport(scratchNode(target));
      await this.#endJob(jobId(target));
      if (await hasNode(qmp, scratchNode(target))) await this.#daemon.closeNode(scratchNode(target));
      const node = this.#node(target);
      if ((await bitmapsOf(qmp, node)).some(({ name }) => name === FROZEN)) {
        await transaction(qmp, [removeBitmap(node, FROZEN)]);
      }
      await rm(this.#scratch(target), { force: true });
    }
    this.#open = [];
  }

  /** @param settle makes durable that the disk is on another image from now on. */
  async commitOverlay(target: string, settle: (lower: DiskSource) => Promise<void>): Promise<void> {
    const node = await commitLive(this.#daemon, target, this.#node(target), settle);
    if (node !== undefined) this.#nodes.set(target, node);
  }

  #instantActions(target: string, since: string | null, next: string | null) {
    const node = this.#node(target);
    const frozen =
      since === null
        ? []
        : [
            addBitmap(node, FROZEN, { persistent: false, disabled: true }),
            mergeBitmap(node, FROZEN, { node, name: since }),
          ];
    const backup = { 'job-id': jobId(target), device: node, target: scratchNode(target), sync: 'none' };
    return [
      ...(next === null ? [] : [addBitmap(node, next, { persistent: true })]),
      ...frozen,
      { type: 'blockdev-backup', data: backup },
    ];
  }

  /** An overlay over the disk: what the guest overwrites while the point is open is kept there. */
  async #prepareScratch({ target, path, format }: DefinedDisk): Promise<number> {
    const size = await imageSize({ path, format });
    const scratch = this.#scratch(target);
    await rm(scratch, { force: true });
    await copyFile(await emptyImage(this.#directory, size), scratch);
    const backing = this.#node(target);
    await this.#daemon.openImage({
      node: scratchNode(target),
      path: scratch,
      format: 'qcow2',
      readOnly: false,
      backing,
    });
    return size;
  }

  async #exportPoint(target: string, size: number, since: string | null): Promise<PointExport> {
    const exportName = scratchNode(target);
    const bitmaps = since === null ? [] : [FROZEN];
    await this.#daemon.exportNode({ node: exportName, exportName, writable: false, bitmaps });
    const dirtyContext = since === null ? null : `qemu:dirty-bitmap:${FROZEN}`;
    return { target, socketPath: this.socketPath, exportName, size, dirtyContext };
  }

  async #endJob(id: string): Promise<void> {
    const { qmp } = this.#daemon;
    if (!(await hasJob(qmp, id))) return;
    const gone = qmp.waitFor(
      'JOB_STATUS_CHANGE',
      ({ data }) => data['id'] === id && data['status'] === 'null',
      JOB_END_MS,
    );
    gone.catch(() => undefined); // thrown below
    await qmp.execute('block-job-cancel', { device: id });
    await gone;
  }

  #node(target: string): string {
    const node = this.#nodes.get(target);
    if (node === undefined) throw new Failure('not-found', `VM ${this.#definition.name} has no disk ${target}`);
    return node;
  }

  #scratch(target: string): string {
    return join(this.#directory, `${this.#definition.id}-${target}.scratch`);
  }
}

function scratchNode(target: string): string {
  return `point-${target}`;
}

function jobId(target: string): string {
  return `keep-${target}`;
}
