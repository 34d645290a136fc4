import { until } from '../../lib/clock.ts';
import { Failure } from '../../model/failure.ts';
import { commitImage, imageInfo } from '../../qemu/image.ts';
import type { DiskSource } from '../hypervisor.ts';
import { rewriteDefinition } from './definition.ts';
import { type Domains, isActive } from './domains.ts';
import {
  BLOCK_ABORT_FLAG,
  BLOCK_COMMIT_FLAG,
  BLOCK_JOB_ACTIVE_COMMIT,
  XML_FLAG,
  type Calls,
  type DomainRef,
} from './rpc/calls.ts';
import { VIR_ERR, isVirError } from './rpc/error.ts';

/** A commit that makes no progress for so long has failed, ms. */
const STALLED_MS = 60_000;

/** Merges a VM's topmost images into the ones right below; repeating it after a crash finishes what was begun. */
export class Overlays {
  readonly #calls: Calls;
  readonly #domains: Domains;

  constructor(calls: Calls, domains: Domains) {
    this.#calls = calls;
    this.#domains = domains;
  }

  async commit(vmId: string, targets: readonly string[]): Promise<void> {
    const domain = await this.#domains.find(vmId);
    if (isActive(domain)) for (const target of targets) await this.#commitLive(domain, target);
    else await this.#commitOff(domain, targets);
  }

  /** The guest writes on; at the end QEMU turns to the lower image, and libvirt writes that into the definition. */
  async #commitLive(domain: DomainRef, target: string): Promise<void> {
    const disk = (await this.#domains.describe(domain)).disks.find((candidate) => candidate.target === target);
    if (disk === undefined) throw new Failure('not-found', `VM ${domain.name} has no disk ${target}`);
    const present = await this.#calls.blockJob(domain, target);
    if (present === undefined) {
      if (disk.backing === undefined) return; // done already
      await this.#calls.blockCommit(domain, target, BLOCK_COMMIT_FLAG.shallow + BLOCK_COMMIT_FLAG.active);
    } else if (present.type !== BLOCK_JOB_ACTIVE_COMMIT) {
      throw new Failure('job-conflict', `disk ${target} of VM ${domain.name} has another block job`);
    }
    await this.#finishCommit(domain, target);
  }

  async #finishCommit(domain: DomainRef, target: string): Promise<void> {
    let done = -1;
    let progressed = performance.now();
    const stalled = () =>
      new Failure('timeout', `the commit of disk ${target} of VM ${domain.name} stands still at ${done} bytes`);
    await until(
      async () => {
        const job = await this.#calls.blockJob(domain, target);
        if (job === undefined) throw new Failure('libvirt', `the commit of disk ${target} of ${domain.name} failed`);
        if (job.done !== done) {
          done = job.done;
          progressed = performance.now();
        } else if (performance.now() - progressed > STALLED_MS) {
          throw stalled();
        }
        return job.total > 0 && job.done >= job.total && (await this.#pivot(domain, target));
      },
      { timeoutMs: Number.POSITIVE_INFINITY, onTimeout: stalled },
    );
  }

  /** False while the job isn't ready for it. */
  async #pivot(domain: DomainRef, target: string): Promise<boolean> {
    try {
      await this.#calls.endBlockJob(domain, target, BLOCK_ABORT_FLAG.pivot);
      return true;
    } catch (error) {
      if (isVirError(error, VIR_ERR.blockCopyActive)) return false;
      throw error;
    }
  }

  async #commitOff(domain: DomainRef, targets: readonly string[]): Promise<void> {
    const { id, name, disks } = await this.#domains.describe(domain);
    const lower = new Map<string, DiskSource>();
    for (const target of targets) {
      const disk = disks.find((candidate) => candidate.target === target);
      if (disk === undefined) throw new Failure('not-found', `VM ${name} has no disk ${target}`);
      const { backing } = await imageInfo(disk.path, { format: disk.format });
      if (backing === undefined) continue; // done already
      const { path, format } = backing;
      if (format !== 'qcow2' && format !== 'raw') {
        throw new Failure('disk-unsupported', `image ${disk.path} doesn't declare the format of its backing file`);
      }
      await commitImage(disk.path);
      lower.set(target, { path, format });
    }
    if (lower.size === 0) return;
    const definition = await this.#calls.xml(domain, XML_FLAG.inactive + XML_FLAG.secure);
    const request = { definition, id, name, disks: lower, otherDisks: 'keep', network: 'as-defined' } as const;
    await this.#calls.define(rewriteDefinition(request));
  }
}
