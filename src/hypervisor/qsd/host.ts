import { Gate } from '../../lib/gate.ts';
import { silentLog, type Log } from '../../lib/log.ts';
import { Failure } from '../../model/failure.ts';
import type { OffPoint } from './powered-off.ts';
import type { RunningVm } from './running-vm.ts';
import { VmFiles, type VmFile } from './vm-file.ts';

export interface QsdHostOptions {
  /** Where the definitions are: `<id>.json`. */
  readonly directory: string;
  /** Sockets, pid files and scratch images. Its path stays below 45 bytes. */
  readonly runDirectory: string;
  readonly log?: Log;
}

/**
 * The machine on which VMs "run": while its images are open for writing, a VM runs. Any number of `QsdHypervisor`s may
 * work on it and end, as daemons restart; VMs go on until the host, or this process, ends. What only a test can do to a
 * machine is here, too.
 */
export class QsdHost {
  readonly files: VmFiles;
  readonly runDirectory: string;
  readonly log: Log;
  readonly running = new Map<string, RunningVm>();
  readonly offPoints = new Map<string, OffPoint>();
  readonly #gates = new Map<string, Gate>();

  constructor(options: QsdHostOptions) {
    this.files = new VmFiles(options.directory);
    this.runDirectory = options.runDirectory;
    this.log = options.log ?? silentLog();
  }

  /** NBD socket of a running VM: export TARGET is what its guest sees of that disk, for writing too. */
  writableSocket(vmId: string): string {
    return this.runningVm(vmId).socketPath;
  }

  runningVm(vmId: string): RunningVm {
    const running = this.running.get(vmId);
    if (running === undefined) throw new Failure('vm-not-running', `VM ${vmId} is off`);
    return running;
  }

  /** Kills a running VM's process, as the death of its host does: what its bitmaps recorded is lost. */
  async crash(vmId: string): Promise<void> {
    await this.exclusively(vmId, 'crash', async () => {
      await this.running.get(vmId)?.kill();
      this.running.delete(vmId);
    });
  }

  /** One operation at a time per VM. Failure `not-found`. */
  async exclusively<T>(vmId: string, what: string, work: (file: VmFile) => Promise<T>): Promise<T> {
    return await this.inTurn(vmId, what, async () => await work(await this.files.find(vmId)));
  }

  /** As `exclusively`, for a VM that need not be there. */
  async inTurn<T>(vmId: string, what: string, work: () => Promise<T>): Promise<T> {
    const gate = this.#gates.get(vmId) ?? new Gate();
    this.#gates.set(vmId, gate);
    return await gate.run(what, work);
  }

  async closePoint(vmId: string): Promise<void> {
    await this.offPoints.get(vmId)?.close();
    this.offPoints.delete(vmId);
    await this.running.get(vmId)?.closePoint();
  }

  /** Ends every open point and shuts every VM down; bitmaps are stored. */
  async close(): Promise<void> {
    for (const id of new Set([...this.running.keys(), ...this.offPoints.keys()])) {
      await this.closePoint(id);
      await this.running.get(id)?.stop();
    }
    this.running.clear();
  }
}
