import { dirname, isAbsolute, join } from 'node:path';
import type { Log } from '../../lib/log.ts';
import { Failure, asFailure } from '../../model/failure.ts';
import { type ImageInfo, addBitmap, imageInfo, removeBitmap } from '../../qemu/image.ts';
import { addEncryptedBitmap, removeEncryptedBitmap } from '../../qemu/encrypted-bitmap.ts';
import { endPredecessor } from '../../qemu/predecessor.ts';
import { StorageDaemon } from '../../qemu/storage-daemon.ts';
import { isWrittenBeside, stillWrittenBeside } from '../../qemu/tracking-image.ts';
import { bitmapNotClosed, bitmapWrittenBeside } from '../hypervisor.ts';
import type { OpenPointRequest, Point, PointExport } from '../hypervisor.ts';
import { keyOf } from './disk-key.ts';
import type { DefinedDisk } from './domain-xml.ts';
import type { Calls } from './rpc/calls.ts';

const DAEMON_NAME = 'off';
const EXPORTED_BITMAP = 'since';

/** A bitmap in the top image of a disk of a VM that is off. */
export interface BitmapAtRest {
  readonly target: string;
  /** Why it can't be relied on there; undefined where it can. */
  readonly why?: string;
}

/** One image of a disk's chain, as its header describes it. */
interface Layer extends ImageInfo {
  readonly path: string;
}

/**
 * Change tracking of a powered-off VM: libvirt has no calls for it, but the bitmaps are in the images. A
 * qemu-storage-daemon opens them read-only; its lock keeps the VM from being started meanwhile.
 */
export class OfflineTracking {
  readonly #calls: Calls;
  readonly #log: Log;
  readonly #daemons = new Map<string, StorageDaemon>();

  constructor(calls: Calls, log: Log) {
    this.#calls = calls;
    this.#log = log;
  }

  /**
   * Starts a bitmap on all of these disks; it records from the next start of the VM on.
   * @param directory the VM's, for the run files of what opens encrypted images.
   */
  async startBitmap(disks: readonly DefinedDisk[], name: string, directory: string): Promise<void> {
    // Before anything is made: what can't be opened can't be cleaned up either.
    const keys = await this.#keys(disks);
    try {
      for (const { path, target } of disks) {
        const key = keys.get(target);
        if (key === undefined) await addBitmap(path, name);
        else await addEncryptedBitmap({ path, key, directory }, name);
      }
    } catch (error) {
      await this.dropBitmap(disks, name, directory);
      throw error;
    }
  }

  /** Every bitmap in the top images of these disks, and whether it can be relied on there. */
  async bitmaps(disks: readonly DefinedDisk[]): Promise<Map<string, BitmapAtRest[]>> {
    const found = new Map<string, BitmapAtRest[]>();
    for (const { target, path, format } of disks) {
      const info = await imageInfo(path, { format });
      const beside = (await isWrittenBeside(path)) ? { why: bitmapWrittenBeside(target) } : {};
      for (const { name, flags } of info.bitmaps) {
        const entry = { target, ...beside, ...(flags.includes('in-use') ? { why: bitmapNotClosed(target) } : {}) };
        found.set(name, [...(found.get(name) ?? []), entry]);
      }
    }
    return found;
  }

  /**
   * Failure `tracking-lost` when a raw disk was written past its tracking image: that is in no bitmap. To be asked before anything is
   * changed in the images, which would hide it.
   */
  async requireTold(disks: readonly DefinedDisk[], name: string): Promise<void> {
    for (const disk of disks) {
      for (const { path } of await layersOf(disk))
        if (await isWrittenBeside(path)) throw lost(disk, name, `doesn't know what was written beside ${path}`);
    }
  }

  /** @param directory the VM's; the daemon's socket is made there. */
  async openPoint(disks: readonly DefinedDisk[], request: OpenPointRequest, directory: string): Promise<Point> {
    const instant = Date.now();
    const keys = await this.#keys(disks);
    if (request.next !== null) await this.startBitmap(disks, request.next, directory);
    let daemon: StorageDaemon | undefined;
    try {
      daemon = await StorageDaemon.start({ directory, name: DAEMON_NAME, log: this.#log });
      const exports: PointExport[] = [];
      for (const disk of disks) exports.push(await openDisk(daemon, disk, request.since, keys.get(disk.target)));
      this.#daemons.set(directory, daemon);
      return { instant, instantEnd: Date.now(), exports, scratchFiles: [] };
    } catch (error) {
      await daemon?.stop();
      if (request.next !== null) await this.dropBitmap(disks, request.next, directory);
      throw asFailure(error, 'disk-engine');
    }
  }

  /** Ends the point that is open there, ours or a predecessor's; whether there was one of ours. */
  async closePoint(directory: string): Promise<boolean> {
    const daemon = this.#daemons.get(directory);
    if (daemon === undefined) return (await endPredecessor(join(directory, `${DAEMON_NAME}.pid`))) !== undefined;
    this.#daemons.delete(directory);
    await daemon.stop();
    return true;
  }

  /** Removes a bitmap from every image of these disks' chains that has it. */
  async dropBitmap(disks: readonly DefinedDisk[], name: string, directory: string): Promise<void> {
    for (const disk of disks) {
      for (const [depth, { path, bitmaps, encrypted }] of (await layersOf(disk)).entries()) {
        if (!bitmaps.some((bitmap) => bitmap.name === name)) continue;
        if (encrypted !== true) await stillWrittenBeside(path, () => removeBitmap(path, name));
        else await removeEncryptedBitmap({ path, key: await this.#layerKey(disk, depth), directory }, name);
      }
    }
  }

  /** Of the disks whose topmost image is encrypted, by target. Failure `disk-encrypted` for one whose key can't be had. */
  async #keys(disks: readonly DefinedDisk[]): Promise<Map<string, Buffer>> {
    const keys = new Map<string, Buffer>();
    for (const disk of disks) {
      if (disk.encryption === undefined) continue;
      for (const [depth, { encrypted }] of (await layersOf(disk)).entries())
        if (encrypted === true) keys.set(disk.target, await this.#layerKey(disk, depth));
    }
    return keys;
  }

  async #layerKey({ target, encryption }: DefinedDisk, depth: number): Promise<Buffer> {
    return await keyOf(this.#calls, target, depth === 0 ? encryption?.secret : undefined);
  }

  async close(): Promise<void> {
    await Promise.all([...this.#daemons.keys()].map((directory) => this.closePoint(directory)));
  }
}

/** @param key of the topmost image, which is encrypted; undefined where it isn't. */
async function openDisk(
  daemon: StorageDaemon,
  disk: DefinedDisk,
  since: string | null,
  key: Buffer | undefined,
): Promise<PointExport> {
  const layers = await layersOf(disk);
  const nodes = layers.map((_, depth) => `${disk.target}-${depth}`);
  for (let depth = layers.length - 1; depth >= 0; depth--) {
    const { path, format } = layers[depth]!;
    const backing = format === 'qcow2' ? { backing: nodes[depth + 1] ?? null } : {};
    await daemon.openImage({
      node: nodes[depth]!,
      path,
      format: imageFormat(disk, format),
      readOnly: true,
      ...backing,
      ...(depth === 0 && key !== undefined ? { key } : {}),
    });
  }
  const node = nodes[0]!;
  if (since !== null) await gatherBitmap(daemon, disk, layers, nodes, since);
  const bitmaps = since === null ? [] : [EXPORTED_BITMAP];
  await daemon.exportNode({ node, exportName: disk.target, writable: false, bitmaps });
  return {
    target: disk.target,
    socketPath: daemon.nbdSocket,
    exportName: disk.target,
    size: layers[0]!.size,
    dirtyContext: since === null ? null : `qemu:dirty-bitmap:${EXPORTED_BITMAP}`,
  };
}

/**
 * A snapshot of the user's lays an overlay over an image, and libvirt goes on recording there under the same name: what
 * changed is the union down to the first image that lacks the bitmap. The top one must have it.
 */
async function gatherBitmap(
  daemon: StorageDaemon,
  disk: DefinedDisk,
  layers: readonly Layer[],
  nodes: readonly string[],
  name: string,
): Promise<void> {
  const sources: { node: string; name: string }[] = [];
  for (const [depth, layer] of layers.entries()) {
    const bitmap = layer.bitmaps.find((candidate) => candidate.name === name);
    if (bitmap?.flags.includes('in-use') === true) throw lost(disk, name, `is inconsistent in ${layer.path}`);
    if (bitmap === undefined) break;
    sources.push({ node: nodes[depth]!, name });
  }
  if (sources.length === 0) throw lost(disk, name, `is missing in ${disk.path}`);
  const node = nodes[0]!;
  await daemon.qmp.execute('block-dirty-bitmap-add', { node, name: EXPORTED_BITMAP, disabled: true });
  await daemon.qmp.execute('block-dirty-bitmap-merge', { node, target: EXPORTED_BITMAP, bitmaps: sources });
}

function lost(disk: DefinedDisk, name: string, how: string): Failure {
  return new Failure('tracking-lost', `bitmap ${name} of disk ${disk.target} ${how}`);
}

/** The images of a disk, the one that the VM writes first. */
async function layersOf(disk: DefinedDisk): Promise<Layer[]> {
  const layers: Layer[] = [];
  let next: { path: string; format?: string } | undefined = disk;
  while (next !== undefined) {
    const { path, format }: { path: string; format?: string } = next;
    if (format === undefined) {
      throw new Failure('disk-unsupported', `image ${path} under disk ${disk.target} declares no format`, {
        hint: 'Declare it in the image above: qemu-img rebase -u -F FORMAT -b BACKING IMAGE.',
      });
    }
    const info: ImageInfo = await imageInfo(path, { format });
    layers.push({ ...info, path });
    const { backing }: ImageInfo = info;
    next = backing === undefined ? undefined : { ...backing, path: absolute(backing.path, path) };
  }
  return layers;
}

function absolute(path: string, of: string): string {
  return isAbsolute(path) ? path : join(dirname(of), path);
}

function imageFormat(disk: DefinedDisk, format: string): 'qcow2' | 'raw' {
  if (format === 'qcow2' || format === 'raw') return format;
  throw new Failure('disk-unsupported', `disk ${disk.target} stands on an image of format ${format}`);
}
