import { Failure } from '../../model/failure.ts';
import type { Vm, VmDisk, VmState, VmStatus } from '../hypervisor.ts';
import { type DefinedDisk, type DomainDescription, describeDomain } from './domain-xml.ts';
import { DOMAIN_STATE, OFF_BY_FAILURE, PAUSED_BY_IO_ERROR, XML_FLAG, type Calls, type DomainRef } from './rpc/calls.ts';
import { VirError } from './rpc/error.ts';

const UUID = /^[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}$/i;

/** Finds and describes libvirt's domains. */
export class Domains {
  readonly #calls: Calls;

  constructor(calls: Calls) {
    this.#calls = calls;
  }

  /** @param ref an id or a name. Failure `not-found`. */
  async find(ref: string): Promise<DomainRef> {
    if (UUID.test(ref)) {
      const found = await this.findId(ref);
      if (found !== undefined) return found;
    }
    return await this.#calls.lookupByName(ref);
  }

  async findId(id: string): Promise<DomainRef | undefined> {
    return await missing(this.#calls.lookupByUuid(uuidBytes(id)));
  }

  async findName(name: string): Promise<DomainRef | undefined> {
    return await missing(this.#calls.lookupByName(name));
  }

  async describe(domain: DomainRef): Promise<DomainDescription> {
    return describeDomain(await this.#calls.xml(domain, isActive(domain) ? 0 : XML_FLAG.inactive));
  }

  async list(): Promise<Vm[]> {
    const domains = await this.#calls.listDomains();
    const vms = await Promise.all(domains.map((domain) => missing(this.vm(domain))));
    return vms.filter((vm) => vm !== undefined);
  }

  async vm(domain: DomainRef): Promise<Vm> {
    const [{ id, name, disks, besidesDisks }, status] = await Promise.all([this.describe(domain), this.status(domain)]);
    return {
      id,
      name,
      ...status,
      besidesDisks,
      disks: await Promise.all(disks.map((disk) => this.#disk(domain, disk))),
    };
  }

  async status(domain: DomainRef): Promise<VmStatus> {
    const [state, permanence] = await Promise.all([this.#stateAndReason(domain), this.#permanence(domain)]);
    return { ...state, ...permanence };
  }

  async state(domain: DomainRef): Promise<VmState> {
    return (await this.#stateAndReason(domain)).state;
  }

  async #stateAndReason(domain: DomainRef): Promise<Omit<VmStatus, 'autostart' | 'transient'>> {
    const { state, reason } = await this.#calls.state(domain);
    const pausedByIoError = state === DOMAIN_STATE.paused && reason === PAUSED_BY_IO_ERROR;
    switch (state) {
      case DOMAIN_STATE.running:
      case DOMAIN_STATE.blocked:
      case DOMAIN_STATE.shutdown: // on its way, and QEMU still has the disks
        return { state: 'running', pausedByIoError };
      case DOMAIN_STATE.shutoff:
        return { state: 'off', pausedByIoError, ...(await this.#failedRevert(domain, reason)) };
      default:
        // paused, suspended by its guest, or crashed: no CPU runs; a crashed one may have left QEMU behind
        return { state: isActive(domain) ? 'paused' : 'off', pausedByIoError };
    }
  }

  /** libvirt doesn't tell a revert that failed from a start that did. */
  async #failedRevert(domain: DomainRef, reason: number): Promise<{ failedRevert?: true }> {
    return reason === OFF_BY_FAILURE && (await this.#calls.snapshots(domain)) > 0 ? { failedRevert: true } : {};
  }

  async #disk(domain: DomainRef, disk: DefinedDisk): Promise<VmDisk> {
    const { target, path, format, unsupported, raw, encryption } = disk;
    let size = 0;
    let reason = unsupported;
    try {
      if (path !== '') size = await this.#calls.capacity(domain, target);
    } catch (error) {
      if (!(error instanceof Failure) || !(error.cause instanceof VirError)) throw error;
      reason ??= `its image can't be read: ${error.cause.message}`;
    }
    return {
      target,
      path,
      format,
      size,
      ...(reason === undefined ? {} : { unsupported: reason }),
      ...(raw === undefined ? {} : { raw }),
      ...(encryption === undefined ? {} : { encrypted: true as const }),
    };
  }

  /** A transient VM has no autostart, and libvirt refuses to answer. */
  async #permanence(domain: DomainRef): Promise<Pick<VmStatus, 'autostart' | 'transient'>> {
    if (!(await this.#calls.isPersistent(domain))) return { autostart: false, transient: true };
    return { autostart: await this.#calls.autostart(domain) };
  }
}

/** A UUID as libvirt's protocol carries it. */
export function uuidBytes(id: string): Buffer {
  return Buffer.from(id.replaceAll('-', ''), 'hex');
}

/** The named disks, if all can be tracked. Failures: `not-found`, `disk-unsupported`. */
export function trackedDisks({ name, disks }: DomainDescription, targets: readonly string[]): DefinedDisk[] {
  return targets.map((target) => {
    const disk = disks.find((candidate) => candidate.target === target);
    if (disk === undefined) throw new Failure('not-found', `VM ${name} has no disk ${target}`);
    if (disk.unsupported === undefined) return disk;
    throw new Failure('disk-unsupported', `disk ${target} of VM ${name} can't be tracked: ${disk.unsupported}`);
  });
}

/** Whether QEMU ran for this domain when it was looked up. */
export function isActive(domain: DomainRef): boolean {
  return domain.number >= 0;
}

/** What was asked for, or undefined where libvirt knows no such domain (any more). */
async function missing<T>(answer: Promise<T>): Promise<T | undefined> {
  try {
    return await answer;
  } catch (error) {
    if (error instanceof Failure && error.code === 'not-found') return undefined;
    throw error;
  }
}
