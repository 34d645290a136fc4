import { until } from '../../lib/clock.ts';
import type { Log } from '../../lib/log.ts';
import { Failure } from '../../model/failure.ts';
import { NbdClient } from '../../qemu/nbd/client.ts';
import type { OpenPointRequest, Point, PointExport } from '../hypervisor.ts';
import { EXPORTED_BITMAP, backupXml, checkpointXml, socketOfBackup } from './backup-xml.ts';
import type { QemuOwner } from './domain-xml.ts';
import { isNoAccess, noAccess } from './no-access.ts';
import type { PointDirectory } from './point-directory.ts';
import { CHECKPOINT_CREATE_FLAG, CHECKPOINT_DELETE_FLAG, JOB_NONE, type Calls, type DomainRef } from './rpc/calls.ts';
import { VIR_ERR, VirError, isVirError } from './rpc/error.ts';

/** libvirt may take 30 s to end a job while a guest agent comes or goes; then some. */
const END_TIMEOUT_MS = 60_000;

/**
 * Change tracking of an active VM by libvirt's backup API in pull mode. A bitmap is a libvirt checkpoint whose metadata
 * is there only while one of these calls runs: so users see no checkpoint, may undefine and migrate the VM, and other
 * backup tools work. libvirt believes blindly in a checkpoint that is put back; we let it look at the bitmaps first.
 */
export class RunningTracking {
  readonly #calls: Calls;
  readonly #log: Log;

  constructor(calls: Calls, log: Log) {
    this.#calls = calls;
    this.#log = log;
  }

  async startBitmap(domain: DomainRef, targets: readonly string[], name: string): Promise<void> {
    try {
      await this.#calls.createCheckpoint(domain, checkpointXml(name, targets), 0);
    } catch (error) {
      throw trackingFailure(domain, error);
    }
    await this.#hide(domain, name);
  }

  /** Why a bitmap can't be relied on, in libvirt's words; undefined when it is there and consistent on all of these disks. */
  async flawOf(domain: DomainRef, targets: readonly string[], name: string): Promise<string | undefined> {
    try {
      await this.#reveal(domain, targets, name);
    } catch (error) {
      if (error instanceof Failure && isVirError(error, VIR_ERR.checkpointInconsistent)) return error.message;
      throw error;
    }
    await this.#hide(domain, name);
    return undefined;
  }

  /** Opens a point; nothing of ours may be open (`endJob`). */
  async openPoint(
    domain: DomainRef,
    request: OpenPointRequest,
    directory: PointDirectory,
    owner: QemuOwner | undefined,
  ): Promise<Point> {
    const { targets, since, next } = request;
    const sizes = new Map<string, number>();
    for (const target of targets) sizes.set(target, await this.#calls.capacity(domain, target));
    const { socketPath, scratch } = await directory.prepare(sizes, owner);
    const backup = backupXml({ socketPath, scratch, since });
    const checkpoint = next === null ? undefined : checkpointXml(next, targets);
    try {
      if (since !== null) await this.#reveal(domain, targets, since);
      const instant = Date.now();
      await this.#calls.backupBegin(domain, backup, checkpoint);
      const instantEnd = Date.now();
      const [exports] = await Promise.all([
        exportsOf(targets, socketPath, since),
        this.#hideAll(domain, [since, next]),
      ]);
      return { instant, instantEnd, exports, scratchFiles: [...scratch.values()] };
    } catch (error) {
      await this.#undoOpen(domain, request, directory);
      if (error instanceof Failure && error.cause instanceof VirError && isNoAccess(error.cause.message))
        throw await noAccess(domain.name, directory.path, owner, error.cause);
      throw trackingFailure(domain, error);
    }
  }

  /** Ends the VM's backup job if it is ours; Failure `job-conflict` when the VM is busy with anything else. */
  async endJob(domain: DomainRef, directory: PointDirectory): Promise<void> {
    const job = await this.#job(domain);
    if (job === 'none') return;
    if (!(await this.#jobIsOurs(domain, directory))) {
      throw job === 'without data' ? withoutData(domain) : busy(domain);
    }
    await this.#abort(domain, directory);
  }

  /** Ends the VM's backup job if it is ours and leaves any other alone. */
  async closePoint(domain: DomainRef, directory: PointDirectory): Promise<void> {
    if (!(await this.#jobIsOurs(domain, directory))) return;
    await this.#abort(domain, directory);
    await directory.clear();
  }

  /** Removes a bitmap, usable or not, from those of the disks that have it. */
  async dropBitmap(domain: DomainRef, targets: readonly string[], name: string): Promise<void> {
    if (targets.length === 0 || (await this.#discard(domain, targets, name))) return;
    // some disk lacks it (QEMU was killed before it stored it), and libvirt removes from all or none: one by one
    for (const target of targets) await this.#discard(domain, [target], name);
  }

  /** Takes metadata of ours, left by a crash, out of the user's sight. Gives the names. */
  async hideLeftOvers(domain: DomainRef, prefix: string): Promise<string[]> {
    const names = (await this.#calls.listCheckpoints(domain)).filter((name) => name.startsWith(prefix));
    for (const name of names) await this.#hide(domain, name);
    return names;
  }

  /** After a failure nothing is open and `next` doesn't exist. What can't be done now (libvirt is gone) is done by the next `openPoint`. */
  async #undoOpen(domain: DomainRef, { targets, since, next }: OpenPointRequest, directory: PointDirectory) {
    try {
      await this.closePoint(domain, directory);
      await this.#hideAll(domain, [since]);
      if (next !== null) await this.dropBitmap(domain, targets, next);
    } catch (error) {
      this.#log.warn({ vm: domain.name, err: error }, 'could not clean up after a point that did not open');
    }
  }

  /** Whether it has a job; while a backup is being begun libvirt fails to say what it does, and for ever if it ended meanwhile. */
  async #job(domain: DomainRef): Promise<'none' | 'some' | 'without data'> {
    try {
      return (await this.#calls.jobType(domain)) === JOB_NONE ? 'none' : 'some';
    } catch (error) {
      if (error instanceof Failure && /backup job data missing/.test(error.message)) return 'without data';
      throw error;
    }
  }

  async #jobIsOurs(domain: DomainRef, directory: PointDirectory): Promise<boolean> {
    try {
      const socket = socketOfBackup(await this.#calls.backupXml(domain));
      return socket !== undefined && directory.owns(socket);
    } catch (error) {
      // no backup, or the VM has ended in between
      if (isVirError(error, VIR_ERR.noBackup, VIR_ERR.operationInvalid)) return false;
      throw error;
    }
  }

  async #abort(domain: DomainRef, directory: PointDirectory): Promise<void> {
    try {
      await this.#calls.abortJob(domain);
    } catch (error) {
      if (!isVirError(error, VIR_ERR.operationInvalid)) throw error; // over already
    }
    await until(async () => !(await this.#jobIsOurs(domain, directory)), {
      timeoutMs: END_TIMEOUT_MS,
      everyMs: 5,
      onTimeout: () => new Failure('timeout', `the backup job of VM ${domain.name} does not end`),
    });
  }

  /** Makes a hidden checkpoint known to libvirt again, if its bitmap is whole: Failure `tracking-lost` otherwise. */
  async #reveal(domain: DomainRef, targets: readonly string[], name: string): Promise<void> {
    const flags = CHECKPOINT_CREATE_FLAG.redefine + CHECKPOINT_CREATE_FLAG.redefineValidate;
    await this.#calls.createCheckpoint(domain, checkpointXml(name, targets), flags);
  }

  async #hide(domain: DomainRef, name: string): Promise<void> {
    try {
      await this.#calls.deleteCheckpoint(domain, name, CHECKPOINT_DELETE_FLAG.metadataOnly);
    } catch (error) {
      if (!isVirError(error, VIR_ERR.noCheckpoint)) throw error;
    }
  }

  async #hideAll(domain: DomainRef, names: readonly (string | null)[]): Promise<void> {
    for (const name of names) if (name !== null) await this.#hide(domain, name);
  }

  /** Removes a bitmap from all of these disks at once; false when one lacks it: then from none. */
  async #discard(domain: DomainRef, targets: readonly string[], name: string): Promise<boolean> {
    // without a look at the bitmaps: a broken one must go, too
    await this.#calls.createCheckpoint(domain, checkpointXml(name, targets), CHECKPOINT_CREATE_FLAG.redefine);
    try {
      await this.#calls.deleteCheckpoint(domain, name, 0);
      return true;
    } catch (error) {
      await this.#hide(domain, name);
      if (error instanceof Failure && error.cause instanceof VirError && /not found/i.test(error.message)) return false;
      throw error;
    }
  }
}

/** Asks the exports themselves for their sizes: that they can be read is seen at once, too. */
async function exportsOf(targets: readonly string[], socketPath: string, since: string | null): Promise<PointExport[]> {
  const dirtyContext = since === null ? null : `qemu:dirty-bitmap:${EXPORTED_BITMAP}`;
  return await Promise.all(
    targets.map(async (target) => {
      const client = await NbdClient.connect({ socketPath, exportName: target });
      const { size } = client;
      await client.close();
      return { target, socketPath, exportName: target, size, dirtyContext };
    }),
  );
}

/** In the same words however it is found out: it is told of once. */
function busy(domain: DomainRef, cause?: VirError): Failure {
  const message = `VM ${domain.name} is busy with another program's job (backup, migration, snapshot, dump)`;
  return new Failure('job-conflict', message, cause === undefined ? {} : { cause });
}

/** libvirt (9.0) keeps the job over its own end, can't abort it, and lets no other one begin: it goes with the VM's QEMU, at the next start of libvirtd. */
function withoutData({ name }: DomainRef): Failure {
  const message = `VM ${name} has a backup job that libvirt has no data of: one that is just being begun, or was when libvirtd ended`;
  const hint = `If it stays so, switch ${name} off (in the guest, or by virsh destroy), restart libvirtd, and start ${name}: nothing else clears such a job. Changes are recorded meanwhile.`;
  return new Failure('job-conflict', message, { hint });
}

/** What libvirt says about jobs and bitmaps, in our terms. */
function trackingFailure(domain: DomainRef, error: unknown): unknown {
  if (!(error instanceof Failure) || !(error.cause instanceof VirError)) return error;
  const options = { cause: error.cause };
  if (error.cause.code === VIR_ERR.operationTimeout || /active block job|job.*active|in use/i.test(error.message)) {
    return busy(domain, error.cause);
  }
  if (error.cause.code === VIR_ERR.configUnsupported || /unsupported for storage/i.test(error.message)) {
    return new Failure('disk-unsupported', `VM ${domain.name}: ${error.cause.message}`, options);
  }
  return error;
}
