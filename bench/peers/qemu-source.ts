/** QEMU's own jobs that copy a disk to an NBD export: push of an increment, and mirror. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { Failure } from '../../src/model/failure.ts';
import { convertImage, createImage } from '../../src/qemu/image.ts';
import { NbdClient } from '../../src/qemu/nbd/client.ts';
import { StorageDaemon } from '../../src/qemu/storage-daemon.ts';
import { cpuSeconds } from '../measure/processes.ts';
import type { Sample } from '../measure/samples.ts';
import type { Place } from '../rig/place.ts';
import { credentials, type QemuTarget } from './qemu-target.ts';

const JOB_TIMEOUT_MS = 600_000;
const BITMAP = 'changed';
const SHOWN = 'shown';
const NODE = 'disk';

export class QemuSource {
  readonly daemon: StorageDaemon;
  readonly #target: QemuTarget;

  private constructor(daemon: StorageDaemon, target: QemuTarget) {
    this.daemon = daemon;
    this.#target = target;
  }

  /** @param source raw image that the disk begins with; an empty one if left out. */
  static async open(
    place: Place,
    name: string,
    disk: { bytes: number; source?: string },
    target: QemuTarget,
  ): Promise<QemuSource> {
    const directory = join(place.data, name);
    mkdirSync(directory, { recursive: true });
    const path = join(directory, 'source.qcow2');
    if (disk.source === undefined) await createImage(path, disk.bytes, { format: 'qcow2' });
    else await convertImage({ path: disk.source, format: 'raw' }, { path, format: 'qcow2' });
    const daemon = await StorageDaemon.start({ directory: join(place.run, name), name: 's' });
    if (target.transport === 'tls') await daemon.qmp.execute('object-add', credentials('client', target.keys));
    await daemon.openImage({ node: NODE, path, format: 'qcow2', readOnly: false });
    await daemon.qmp.execute('block-dirty-bitmap-add', { node: NODE, name: BITMAP });
    await daemon.exportNode({ node: NODE, exportName: NODE, writable: true });
    return new QemuSource(daemon, target);
  }

  /** The guest's side of the disk. */
  async disk(metaContexts: readonly string[] = []): Promise<NbdClient> {
    return await NbdClient.connect({ socketPath: this.daemon.nbdSocket, exportName: NODE, metaContexts });
  }

  /** What has changed since the last push, written to the target and flushed. */
  async push(): Promise<Sample> {
    return await this.#job('blockdev-backup', { sync: 'bitmap', bitmap: BITMAP, 'bitmap-mode': 'on-success' });
  }

  /** The whole disk, as a live migration of storage copies it. */
  async mirror(): Promise<Sample> {
    return await this.#job('blockdev-mirror', { sync: 'full' });
  }

  /** What has changed since the last push, as a backup tool reads it: an export with a copy of the bitmap. */
  async showChanges(): Promise<{ socketPath: string; exportName: string; context: string }> {
    const { qmp, nbdSocket } = this.daemon;
    await qmp.execute('block-dirty-bitmap-add', { node: NODE, name: SHOWN, disabled: true });
    await qmp.execute('block-dirty-bitmap-merge', { node: NODE, target: SHOWN, bitmaps: [BITMAP] });
    await this.daemon.exportNode({ node: NODE, exportName: SHOWN, writable: false, bitmaps: [SHOWN] });
    return { socketPath: nbdSocket, exportName: SHOWN, context: `qemu:dirty-bitmap:${SHOWN}` };
  }

  async hideChanges(): Promise<void> {
    await this.daemon.closeExport(SHOWN);
    await this.daemon.qmp.execute('block-dirty-bitmap-remove', { node: NODE, name: SHOWN });
  }

  async close(): Promise<void> {
    await this.daemon.stop();
  }

  async #job(command: string, options: Record<string, unknown>): Promise<Sample> {
    const { qmp } = this.daemon;
    const pids = [this.daemon.pid, this.#target.daemon.pid];
    const cpu = cpuSeconds(pids);
    const started = performance.now();
    await qmp.execute('blockdev-add', { ...this.#target.clientNode(), 'node-name': 'out' });
    const completed = qmp.waitFor('BLOCK_JOB_COMPLETED', ({ data }) => data['device'] === 'job', JOB_TIMEOUT_MS);
    completed.catch(() => undefined); // awaited below
    if (command === 'blockdev-mirror') {
      const ready = qmp.waitFor('BLOCK_JOB_READY', ({ data }) => data['device'] === 'job', JOB_TIMEOUT_MS);
      ready.catch(() => undefined); // awaited below
      await qmp.execute(command, { 'job-id': 'job', device: NODE, target: 'out', ...options });
      await ready;
      await qmp.execute('block-job-cancel', { device: 'job' }); // ends it in sync, without a switch to the target
    } else {
      await qmp.execute(command, { 'job-id': 'job', device: NODE, target: 'out', ...options });
    }
    const { data } = await completed;
    if (data['error'] !== undefined) throw new Failure('disk-engine', `${command}: ${JSON.stringify(data['error'])}`);
    await this.#flush();
    await qmp.execute('blockdev-del', { 'node-name': 'out' });
    const seconds = (performance.now() - started) / 1000;
    return { seconds, cpuSeconds: cpuSeconds(pids) - cpu, figures: {} };
  }

  /** As far as the target's storage. */
  async #flush(): Promise<void> {
    await this.daemon.exportNode({ node: 'out', exportName: 'out', writable: true });
    const out = await NbdClient.connect({ socketPath: this.daemon.nbdSocket, exportName: 'out' });
    await out.flush();
    await out.close();
    await this.daemon.closeExport('out');
  }
}
