import { randomBytes } from 'node:crypto';
import { chmod, chown, copyFile, mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure } from '../../model/failure.ts';
import { emptyImage } from '../../qemu/empty-image.ts';
import type { QemuOwner } from './domain-xml.ts';

/** Longest path of a unix socket, in bytes. */
const SOCKET_PATH_MAX = 107;

/**
 * Where a VM's open point lives: `ROOT/<vm id>/job/` belongs to QEMU's user and holds the NBD socket and the scratch
 * files of one job; their names are never used twice, because libvirt removes scratch files some time after the job.
 */
export class PointDirectory {
  readonly path: string;
  readonly #root: string;
  readonly #job: string;

  constructor(root: string, vmId: string) {
    this.#root = root;
    this.path = join(root, vmId);
    this.#job = join(this.path, 'job');
  }

  /** Whether a socket is one that we made for this VM: so the job is ours. */
  owns(socketPath: string): boolean {
    return socketPath.startsWith(`${this.#job}/`);
  }

  /**
   * Makes room for a new job, removing what an old one left. Call it only while no job of ours is open.
   *
   * The scratch files are made here, not by libvirt: it would have QEMU create them in a job beside the monitor, and QEMU 7.2
   * dies of an assertion (qcow2_get_specific_info) when anybody asks it for its block devices in that moment, as `virsh
   * domblkinfo` and every monitoring tool do. Seen twice in a dozen runs on a loaded host. It is quicker, too.
   * @param sizes virtual size of each disk by target, bytes.
   */
  async prepare(
    sizes: ReadonlyMap<string, number>,
    owner: QemuOwner | undefined,
  ): Promise<{ socketPath: string; scratch: Map<string, string> }> {
    const tag = randomBytes(4).toString('hex');
    const socketPath = join(this.#job, `${tag}.sock`);
    if (Buffer.byteLength(socketPath) > SOCKET_PATH_MAX) {
      throw new Failure('bad-config', `the point directory's path is too long for a unix socket: ${socketPath}`);
    }
    await mkdir(this.#job, { recursive: true });
    // QEMU's user passes through the upper two and owns the last
    await chmod(this.#root, 0o711);
    await chmod(this.path, 0o711);
    if (owner !== undefined) await chown(this.#job, owner.uid, owner.gid);
    await chmod(this.#job, 0o700);
    await this.clear();
    const scratch = new Map<string, string>();
    for (const [target, size] of sizes) {
      const file = join(this.#job, `${tag}-${target}`);
      await copyFile(await emptyImage(this.path, size), file);
      if (owner !== undefined) await chown(file, owner.uid, owner.gid);
      scratch.set(target, file);
    }
    return { socketPath, scratch };
  }

  /** Removes sockets and scratch files of jobs that are over. */
  async clear(): Promise<void> {
    let names: string[];
    try {
      names = await readdir(this.#job);
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
      throw error;
    }
    await Promise.all(names.map((name) => rm(join(this.#job, name), { force: true })));
  }

  async remove(): Promise<void> {
    await rm(this.path, { recursive: true, force: true });
  }
}
