import type { Versions } from '../../model/versions.ts';
import type { Log } from '../../lib/log.ts';
import type {
  AdaptRequest,
  BitmapStatus,
  DefineRequest,
  Hypervisor,
  OpenPointRequest,
  Point,
  Vm,
  HostUser,
  VmInspection,
  VmStatus,
} from '../hypervisor.ts';
import { adaptDefinition } from './adapt.ts';
import { Domains } from './domains.ts';
import { factsOf } from './facts.ts';
import { inspectDomain } from './inspection.ts';
import { lackingFor } from './lacking.ts';
import { Lifecycle } from './lifecycle.ts';
import { vmUserOf } from './domain-xml.ts';
import { Overlays } from './overlays.ts';
import { Calls } from './rpc/calls.ts';
import { Session, defaultSocketPath } from './rpc/session.ts';
import { Tracking } from './tracking.ts';

export interface LibvirtOptions {
  /** libvirt's unix socket. Default: libvirtd's, or virtqemud's where daemons are modular. */
  readonly socketPath?: string;
  /**
   * Absolute path, at most 50 bytes, of a directory of ours: sockets and scratch files of open points, the list of
   * bitmaps. QEMU's user must be able to pass through its parents. Scratch takes what the guest overwrites while a point is open.
   */
  readonly pointDirectory: string;
  readonly log: Log;
}

/** The VMs of one host under libvirt (system instance of the QEMU driver). */
export class LibvirtHypervisor implements Hypervisor {
  readonly #session: Session;
  readonly #calls: Calls;
  readonly #domains: Domains;
  readonly #tracking: Tracking;
  readonly #lifecycle: Lifecycle;
  readonly #overlays: Overlays;

  /** Connects at the first call. */
  constructor(options: LibvirtOptions) {
    this.#session = new Session(options.socketPath ?? defaultSocketPath());
    const calls = new Calls(this.#session);
    this.#calls = calls;
    this.#domains = new Domains(calls);
    this.#tracking = new Tracking(calls, this.#domains, options);
    this.#lifecycle = new Lifecycle(calls, this.#domains, options.log);
    this.#overlays = new Overlays(calls, this.#domains);
  }

  async vmUser(): Promise<HostUser | undefined> {
    return vmUserOf(await this.#calls.capabilities());
  }

  async versions(): Promise<Versions> {
    const { libvirt, qemu } = await this.#calls.versions();
    return { libvirt: versionText(libvirt), QEMU: versionText(qemu) };
  }

  listVms(): Promise<Vm[]> {
    return this.#domains.list();
  }

  async getVm(ref: string): Promise<Vm> {
    return await this.#domains.vm(await this.#domains.find(ref));
  }

  async vmStatus(vmId: string): Promise<VmStatus> {
    return await this.#domains.status(await this.#domains.find(vmId));
  }

  async inspect(vmId: string): Promise<VmInspection> {
    return await inspectDomain(this.#calls, this.#domains, await this.#domains.find(vmId));
  }

  startBitmap(vmId: string, targets: readonly string[], name: string): Promise<void> {
    return this.#tracking.startBitmap(vmId, targets, name);
  }

  openPoint(request: OpenPointRequest): Promise<Point> {
    return this.#tracking.openPoint(request);
  }

  closePoint(vmId: string): Promise<void> {
    return this.#tracking.closePoint(vmId);
  }

  listBitmaps(vmId: string, targets?: readonly string[]): Promise<BitmapStatus[]> {
    return this.#tracking.listBitmaps(vmId, targets);
  }

  dropBitmap(vmId: string, name: string): Promise<void> {
    return this.#tracking.dropBitmap(vmId, name);
  }

  exportDefinition(vmId: string): Promise<string> {
    return this.#lifecycle.exportDefinition(vmId);
  }

  async factsOf(definition: string): Promise<Readonly<Record<string, string>>> {
    return factsOf(definition);
  }

  async adaptDefinition(request: AdaptRequest): Promise<string> {
    return adaptDefinition(request);
  }

  async lackingFor(definition: string): Promise<readonly string[]> {
    return await lackingFor(this.#calls, definition);
  }

  define(request: DefineRequest): Promise<void> {
    return this.#lifecycle.define(request);
  }

  async undefine(vmId: string): Promise<void> {
    await this.#lifecycle.undefine(vmId);
    await this.#tracking.forget(vmId);
  }

  setAutostart(vmId: string, on: boolean): Promise<void> {
    return this.#lifecycle.setAutostart(vmId, on);
  }

  start(vmId: string): Promise<void> {
    return this.#lifecycle.start(vmId);
  }

  /** Ends our open point first: with a job open libvirt stays "in shutdown" for 30 s after the guest is off. */
  async shutdown(vmId: string, timeoutMs: number): Promise<void> {
    await this.#tracking.closePoint(vmId);
    await this.#lifecycle.shutdown(vmId, timeoutMs);
  }

  destroy(vmId: string): Promise<void> {
    return this.#lifecycle.destroy(vmId);
  }

  suspend(vmId: string): Promise<void> {
    return this.#lifecycle.suspend(vmId);
  }

  resume(vmId: string): Promise<void> {
    return this.#lifecycle.resume(vmId);
  }

  setNetwork(vmId: string, network: DefineRequest['network']): Promise<void> {
    return this.#lifecycle.setNetwork(vmId, network);
  }

  commitOverlays(vmId: string, targets: readonly string[]): Promise<void> {
    return this.#overlays.commit(vmId, targets);
  }

  async close(): Promise<void> {
    await this.#tracking.close();
    await this.#session.close();
  }
}

/** As libvirt counts them. */
function versionText(version: number): string {
  return [Math.floor(version / 1e6), Math.floor(version / 1000) % 1000, version % 1000].join('.');
}
