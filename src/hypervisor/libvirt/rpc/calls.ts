import { Failure } from '../../../model/failure.ts';
import type { SecretName } from '../domain-xml.ts';
import { VIR_ERR, VirError, isVirError } from './error.ts';
import type { Session } from './session.ts';
import { XdrWriter, type XdrReader } from './xdr.ts';

/** A domain as libvirt names it. `number` is -1 while it is off. */
export interface DomainRef {
  readonly name: string;
  readonly uuid: Uint8Array;
  readonly number: number;
}

/** What a domain is made by; undefined: libvirt's own choice. */
export interface MachineKind {
  readonly emulator: string | undefined;
  readonly arch: string | undefined;
  readonly machine: string | undefined;
  readonly virtType: string | undefined;
}

/** A secret as libvirt names it. */
export interface SecretRef {
  readonly uuid: Uint8Array;
  readonly usageType: number;
  readonly usage: string;
}

/** A job on one disk; progress in bytes. */
export interface BlockJob {
  readonly type: number;
  readonly done: number;
  readonly total: number;
}

export const DOMAIN_STATE = { running: 1, blocked: 2, paused: 3, shutdown: 4, shutoff: 5, crashed: 6 } as const;
/** What a secret is for: the key of a disk. */
const SECRET_OF_A_VOLUME = 1;
/** Of domainBackupBegin: scratch files are used as they are. */
const REUSE_SCRATCH = 1;
/** Why a paused domain is paused: a write of its failed. */
export const PAUSED_BY_IO_ERROR = 5;
/** Why a domain is off: starting it, or reverting it to a snapshot, failed. */
export const OFF_BY_FAILURE = 6;
export const XML_FLAG = { secure: 1, inactive: 2 } as const;
export const UNDEFINE_FLAG = { managedSave: 1, snapshotsMetadata: 2, keepNvram: 8, checkpointsMetadata: 16 } as const;
export const SHUTDOWN_FLAG = { acpi: 1, agent: 2 } as const;
export const CHECKPOINT_CREATE_FLAG = { redefine: 1, redefineValidate: 4 } as const;
export const CHECKPOINT_DELETE_FLAG = { metadataOnly: 2 } as const;
export const BLOCK_COMMIT_FLAG = { shallow: 1, active: 4 } as const;
export const BLOCK_ABORT_FLAG = { pivot: 2 } as const;
export const BLOCK_JOB_ACTIVE_COMMIT = 4;
export const JOB_NONE = 0;

/**
 * libvirt waits up to 30 s for another job on the same domain, and a guest agent that comes or goes under an open
 * backup job holds all of libvirtd for 30 s: nothing is called dead before this, in ms.
 */
const PATIENT_MS = 75_000;

/** The procedures of libvirt's remote protocol that we need: numbers and argument layouts. All may fail with `libvirt-down`, `timeout`, `libvirt`. */
export class Calls {
  readonly #session: Session;

  constructor(session: Session) {
    this.#session = session;
  }

  // --- connection ---
  async listDomains(): Promise<DomainRef[]> {
    const reader = await this.#call(273, 'connectListAllDomains', new XdrWriter().int(1).uint(0));
    return reader.array(readDomain);
  }

  /** Each as 1,000,000 × major + 1,000 × minor + release. */
  async versions(): Promise<{ libvirt: number; qemu: number }> {
    const libvirt = (await this.#call(157, 'connectGetLibVersion', new XdrWriter())).uhyper();
    const qemu = (await this.#call(4, 'connectGetVersion', new XdrWriter())).uhyper();
    return { libvirt, qemu };
  }

  /** XML: what the host and its hypervisor can do, and whom VMs run as. */
  async capabilities(): Promise<string> {
    return (await this.#call(7, 'connectGetCapabilities', new XdrWriter())).string();
  }

  /** XML: what a machine of that kind can have here. libvirt refuses kinds that it doesn't know (`invalidArgument`). */
  async domainCapabilities(kind: MachineKind): Promise<string> {
    const args = new XdrWriter().optionalString(kind.emulator).optionalString(kind.arch).optionalString(kind.machine);
    const reader = await this.#call(342, 'connectGetDomainCapabilities', args.optionalString(kind.virtType).uint(0));
    return reader.string();
  }

  /** Whether there is a virtual network of that name; true where this daemon of libvirt has nothing to do with networks. */
  async hasNetwork(name: string): Promise<boolean> {
    try {
      await this.#call(46, 'networkLookupByName', new XdrWriter().string(name));
      return true;
    } catch (error) {
      if (isVirError(error, VIR_ERR.noNetwork)) return false;
      if (error instanceof Failure && error.cause instanceof VirError) return true;
      throw error;
    }
  }

  // --- secrets ---
  /** Failures of libvirt: `noSecret`; another where this daemon of libvirt has nothing to do with secrets (virtqemud). */
  async lookupSecret({ uuid, usage }: SecretName): Promise<SecretRef> {
    const reader =
      uuid === undefined
        ? await this.#call(147, 'secretLookupByUsage', new XdrWriter().int(SECRET_OF_A_VOLUME).string(usage ?? ''))
        : await this.#call(
            141,
            'secretLookupByUUID',
            new XdrWriter().fixed(Buffer.from(uuid.replaceAll('-', ''), 'hex')),
          );
    return { uuid: reader.fixed(16), usageType: reader.int(), usage: reader.string() };
  }

  /** Whether there is a secret of that UUID; true where this daemon of libvirt has nothing to do with secrets. */
  async hasSecret(uuid: string): Promise<boolean> {
    try {
      await this.lookupSecret({ uuid });
      return true;
    } catch (error) {
      if (isVirError(error, VIR_ERR.noSecret)) return false;
      if (error instanceof Failure && error.cause instanceof VirError) return true;
      throw error;
    }
  }

  /** What it is. Fails where it is private: libvirt tells nobody. */
  async secretValue({ uuid, usageType, usage }: SecretRef): Promise<Buffer> {
    const args = new XdrWriter().fixed(uuid).int(usageType).string(usage).uint(0);
    const reader = await this.#call(145, 'secretGetValue', args);
    return Buffer.from(reader.fixed(reader.uint()));
  }

  // --- domains ---
  async lookupByName(name: string): Promise<DomainRef> {
    return readDomain(await this.#call(23, 'domainLookupByName', new XdrWriter().string(name)));
  }

  async lookupByUuid(uuid: Uint8Array): Promise<DomainRef> {
    return readDomain(await this.#call(24, 'domainLookupByUUID', new XdrWriter().fixed(uuid)));
  }

  async xml(domain: DomainRef, flags: number): Promise<string> {
    return (await this.#call(14, 'domainGetXMLDesc', onDomain(domain).uint(flags))).string();
  }

  async state(domain: DomainRef): Promise<{ state: number; reason: number }> {
    const reader = await this.#call(212, 'domainGetState', onDomain(domain).uint(0));
    return { state: reader.int(), reason: reader.int() };
  }

  async autostart(domain: DomainRef): Promise<boolean> {
    return (await this.#call(15, 'domainGetAutostart', onDomain(domain))).int() !== 0;
  }

  async setAutostart(domain: DomainRef, on: boolean): Promise<void> {
    await this.#call(29, 'domainSetAutostart', onDomain(domain).int(on ? 1 : 0));
  }

  async define(xml: string): Promise<DomainRef> {
    return readDomain(await this.#call(350, 'domainDefineXMLFlags', new XdrWriter().string(xml).uint(0)));
  }

  async undefine(domain: DomainRef, flags: number): Promise<void> {
    await this.#call(231, 'domainUndefineFlags', onDomain(domain).uint(flags));
  }

  async isPersistent(domain: DomainRef): Promise<boolean> {
    return (await this.#call(151, 'domainIsPersistent', onDomain(domain))).int() !== 0;
  }

  async hasManagedSave(domain: DomainRef): Promise<boolean> {
    return (await this.#call(183, 'domainHasManagedSaveImage', onDomain(domain).uint(0))).int() !== 0;
  }

  async removeManagedSave(domain: DomainRef): Promise<void> {
    await this.#call(184, 'domainManagedSaveRemove', onDomain(domain).uint(0));
  }

  async create(domain: DomainRef): Promise<void> {
    await this.#call(196, 'domainCreateWithFlags', onDomain(domain).uint(0));
  }

  /** @param timeoutMs for a request by the agent, which may never answer. */
  async shutdown(domain: DomainRef, flags: number, timeoutMs = PATIENT_MS): Promise<void> {
    await this.#call(258, 'domainShutdownFlags', onDomain(domain).uint(flags), timeoutMs);
  }

  async destroy(domain: DomainRef): Promise<void> {
    await this.#call(234, 'domainDestroyFlags', onDomain(domain).uint(0));
  }

  /** Changes a device of the running domain (flag 1: live). */
  async updateDevice(domain: DomainRef, xml: string): Promise<void> {
    await this.#call(174, 'domainUpdateDeviceFlags', onDomain(domain).string(xml).uint(1));
  }

  async suspend(domain: DomainRef): Promise<void> {
    await this.#call(34, 'domainSuspend', onDomain(domain));
  }

  async resume(domain: DomainRef): Promise<void> {
    await this.#call(28, 'domainResume', onDomain(domain));
  }

  // --- disks and jobs ---
  /** Virtual size of a disk, in bytes. `disk` is a target or a path. */
  async capacity(domain: DomainRef, disk: string): Promise<number> {
    const reader = await this.#call(194, 'domainGetBlockInfo', onDomain(domain).string(disk).uint(0));
    reader.uhyper(); // allocation
    return reader.uhyper();
  }

  /** Type of the domain's job, `JOB_NONE` when there is none. */
  async jobType(domain: DomainRef): Promise<number> {
    return (await this.#call(163, 'domainGetJobInfo', onDomain(domain))).int();
  }

  async abortJob(domain: DomainRef): Promise<void> {
    await this.#call(164, 'domainAbortJob', onDomain(domain));
  }

  async blockCommit(domain: DomainRef, disk: string, flags: number): Promise<void> {
    const args = onDomain(domain).string(disk).optionalString(undefined).optionalString(undefined);
    await this.#call(290, 'domainBlockCommit', args.uhyper(0).uint(flags));
  }

  /** Progress of a disk's block job; undefined when it has none. */
  async blockJob(domain: DomainRef, disk: string): Promise<BlockJob | undefined> {
    const reader = await this.#call(238, 'domainGetBlockJobInfo', onDomain(domain).string(disk).uint(0));
    if (reader.int() === 0) return undefined;
    const type = reader.int();
    reader.uhyper(); // bandwidth
    return { type, done: reader.uhyper(), total: reader.uhyper() };
  }

  async endBlockJob(domain: DomainRef, disk: string, flags: number): Promise<void> {
    await this.#call(237, 'domainBlockJobAbort', onDomain(domain).string(disk).uint(flags));
  }

  /** Number of its snapshots. */
  async snapshots(domain: DomainRef): Promise<number> {
    return (await this.#call(187, 'domainSnapshotNum', onDomain(domain).uint(0))).int();
  }

  // --- backups and checkpoints ---
  /** The scratch files must be there already: see `PointDirectory.prepare`. */
  async backupBegin(domain: DomainRef, backupXml: string, checkpointXml: string | undefined): Promise<void> {
    const args = onDomain(domain).string(backupXml).optionalString(checkpointXml).uint(REUSE_SCRATCH);
    await this.#call(421, 'domainBackupBegin', args);
  }

  async backupXml(domain: DomainRef): Promise<string> {
    return (await this.#call(422, 'domainBackupGetXMLDesc', onDomain(domain).uint(0))).string();
  }

  async createCheckpoint(domain: DomainRef, xml: string, flags: number): Promise<void> {
    await this.#call(411, 'domainCheckpointCreateXML', onDomain(domain).string(xml).uint(flags));
  }

  async listCheckpoints(domain: DomainRef): Promise<string[]> {
    const reader = await this.#call(413, 'domainListAllCheckpoints', onDomain(domain).int(1).uint(0));
    return reader.array((checkpoint) => {
      const name = checkpoint.string();
      readDomain(checkpoint);
      return name;
    });
  }

  async deleteCheckpoint(domain: DomainRef, name: string, flags: number): Promise<void> {
    const args = writeDomain(new XdrWriter().string(name), domain).uint(flags);
    await this.#call(417, 'domainCheckpointDelete', args);
  }

  #call(procedure: number, name: string, args: XdrWriter, timeoutMs = PATIENT_MS): Promise<XdrReader> {
    return this.#session.call(procedure, name, args.finish(), timeoutMs);
  }
}

function readDomain(reader: XdrReader): DomainRef {
  return { name: reader.string(), uuid: reader.fixed(16), number: reader.int() };
}

function writeDomain(writer: XdrWriter, domain: DomainRef): XdrWriter {
  return writer.string(domain.name).fixed(domain.uuid).int(domain.number);
}

function onDomain(domain: DomainRef): XdrWriter {
  return writeDomain(new XdrWriter(), domain);
}
