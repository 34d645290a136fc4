import { join } from 'node:path';
import { Gate } from '../../lib/gate.ts';
import type { Log } from '../../lib/log.ts';
import { Failure } from '../../model/failure.ts';
import { imageInfo } from '../../qemu/image.ts';
import {
  BITMAP_PREFIX,
  bitmapMissing,
  diskEncrypted,
  type BitmapStatus,
  type OpenPointRequest,
  type Point,
} from '../hypervisor.ts';
import { AgentWatch } from './agent-watch.ts';
import { BitmapLedger } from './bitmap-ledger.ts';
import type { DefinedDisk, DomainDescription } from './domain-xml.ts';
import { type Domains, isActive, trackedDisks } from './domains.ts';
import { OfflineTracking, type BitmapAtRest } from './offline-tracking.ts';
import { PointDirectory } from './point-directory.ts';
import { qemuAge } from './qemu-process.ts';
import type { Calls, DomainRef } from './rpc/calls.ts';
import { RunningTracking } from './running-tracking.ts';

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

/** What we keep of one VM. */
interface Tracked {
  readonly gate: Gate;
  readonly directory: PointDirectory;
  readonly ledger: BitmapLedger;
  readonly agent: AgentWatch;
}

/** Change tracking of VMs, on or off; one operation at a time per VM. */
export class Tracking {
  readonly #domains: Domains;
  readonly #running: RunningTracking;
  readonly #offline: OfflineTracking;
  readonly #root: string;
  readonly #tracked = new Map<string, Tracked>();

  constructor(calls: Calls, domains: Domains, options: { pointDirectory: string; log: Log }) {
    this.#domains = domains;
    this.#running = new RunningTracking(calls, options.log);
    this.#offline = new OfflineTracking(calls, options.log);
    this.#root = options.pointDirectory;
  }

  async startBitmap(vmId: string, targets: readonly string[], name: string): Promise<void> {
    ours(name);
    await this.#exclusively(vmId, 'start bitmap', async (domain, { ledger, directory }) => {
      const disks = trackedDisks(await this.#domains.describe(domain), targets);
      const status = (await this.#statuses(domain, ledger, targets)).find((bitmap) => bitmap.name === name);
      if (status?.usable === true) return await this.#extend(domain, { ledger, directory }, disks, name);
      if (isActive(domain) && (await this.#running.flawOf(domain, targets, name)) === undefined) {
        await ledger.add(name, targets); // which had lost it
        return;
      }
      // starting it anew would hide from the caller that it has forgotten something
      if (status !== undefined) throw lost(domain, name);
      await this.#writtenDown(ledger, name, targets, async () => {
        if (isActive(domain)) await this.#running.startBitmap(domain, targets, name);
        else await this.#offline.startBitmap(disks, name, directory.path);
      });
    });
  }

  async openPoint(request: OpenPointRequest): Promise<Point> {
    const { vmId, targets, since, next, plaintext = false } = request;
    if (since !== null) ours(since);
    if (next !== null) ours(next);
    return await this.#exclusively(vmId, 'open point', async (domain, { directory, ledger, agent }) => {
      const description = await this.#domains.describe(domain);
      const disks = trackedDisks(description, targets);
      const encrypted = disks.filter(({ encryption }) => encryption !== undefined).map(({ target }) => target);
      if (encrypted.length > 0 && !plaintext) throw diskEncrypted(domain.name, encrypted);
      await this.#offline.closePoint(directory.path);
      if (isActive(domain)) await this.#running.endJob(domain, directory);
      const agentLost = isActive(domain) && (await agentIsLost(agent, domain, description));
      if (!isActive(domain) && since !== null) await this.#offline.requireTold(disks, since);
      if (next !== null) {
        // one of this name was left by a try that failed: what it recorded began at the wrong instant
        if ((await ledger.entries()).has(next)) await this.#drop(domain, { ledger, directory }, next);
      }
      return await this.#writtenDown(ledger, next, targets, async () => {
        if (!isActive(domain)) return await this.#offline.openPoint(disks, request, directory.path);
        const point = await this.#running.openPoint(domain, request, directory, description.owner);
        return agentLost ? { ...point, agentLost } : point;
      });
    });
  }

  async closePoint(vmId: string): Promise<void> {
    await this.#exclusively(vmId, 'close point', async (domain, { directory }) => {
      const wasOffline = await this.#offline.closePoint(directory.path);
      if (!wasOffline && isActive(domain)) await this.#running.closePoint(domain, directory);
    });
  }

  async listBitmaps(vmId: string, targets?: readonly string[]): Promise<BitmapStatus[]> {
    return await this.#exclusively(vmId, 'list bitmaps', async (domain, { ledger }) => {
      if (isActive(domain)) await this.#adoptLeftOvers(domain, ledger);
      return await this.#statuses(domain, ledger, targets);
    });
  }

  async dropBitmap(vmId: string, name: string): Promise<void> {
    ours(name);
    await this.#exclusively(vmId, 'drop bitmap', (domain, tracked) => this.#drop(domain, tracked, name));
  }

  /** Forgets a VM that is no longer defined. */
  async forget(vmId: string): Promise<void> {
    const { directory } = this.#of(vmId);
    await this.#offline.closePoint(directory.path);
    await directory.remove();
    this.#tracked.delete(vmId);
  }

  /** Ends the points of powered-off VMs, whose servers are our children; those of running VMs stay open. */
  async close(): Promise<void> {
    await this.#offline.close();
  }

  /** Does what makes a bitmap, with its name in the ledger before; it is taken out again if nothing was made. */
  async #writtenDown<T>(
    ledger: BitmapLedger,
    name: string | null,
    targets: readonly string[],
    work: () => Promise<T>,
  ): Promise<T> {
    if (name === null) return await work();
    await ledger.add(name, targets);
    try {
      return await work();
    } catch (error) {
      // when libvirt is gone nobody knows whether the bitmap was made
      const unknown = error instanceof Failure && (error.code === 'libvirt-down' || error.code === 'timeout');
      if (!unknown) await ledger.remove(name);
      throw error;
    }
  }

  /**
   * Starts a usable bitmap on further disks. Written down when it is made: nobody relies on it there before, and one that a crash has left
   * there has recorded more, not less.
   */
  async #extend(
    domain: DomainRef,
    { ledger, directory }: Pick<Tracked, 'ledger' | 'directory'>,
    disks: readonly DefinedDisk[],
    name: string,
  ): Promise<void> {
    const has = (await ledger.entries()).get(name) ?? [];
    const further = disks.filter(({ target }) => !has.includes(target));
    if (further.length === 0) return;
    const targets = further.map(({ target }) => target);
    if (!isActive(domain)) {
      await this.#offline.dropBitmap(further, name, directory.path);
      await this.#offline.startBitmap(further, name, directory.path);
    } else if ((await this.#running.flawOf(domain, targets, name)) !== undefined) {
      await this.#running.dropBitmap(domain, targets, name);
      await this.#running.startBitmap(domain, targets, name);
    }
    const all = [...has, ...targets];
    await (isActive(domain) ? ledger.add(name, all) : ledger.addDurably(name, all));
  }

  async #drop(
    domain: DomainRef,
    { ledger, directory }: Pick<Tracked, 'ledger' | 'directory'>,
    name: string,
  ): Promise<void> {
    const disks = await this.#trackable(domain);
    const targets = (await ledger.entries()).get(name) ?? disks.map((disk) => disk.target);
    const attached = targets.filter((target) => disks.some((disk) => disk.target === target));
    if (isActive(domain)) await this.#running.dropBitmap(domain, attached, name);
    else await this.#offline.dropBitmap(disks, name, directory.path);
    await ledger.remove(name);
  }

  /** Checkpoints of ours that a crash left in the user's sight. */
  async #adoptLeftOvers(domain: DomainRef, ledger: BitmapLedger): Promise<void> {
    for (const name of await this.#running.hideLeftOvers(domain, BITMAP_PREFIX)) {
      if ((await ledger.entries()).has(name)) continue;
      const disks = await this.#trackable(domain);
      await ledger.add(
        name,
        disks.map((disk) => disk.target),
      );
    }
  }

  /** @param of a bitmap that was started on more disks than these is judged on these alone. */
  async #statuses(domain: DomainRef, ledger: BitmapLedger, of?: readonly string[]): Promise<BitmapStatus[]> {
    const disks = await this.#trackable(domain);
    const targetsOf = new Map(await ledger.entries());
    const inImages = isActive(domain) ? await namesInUse(disks) : await this.#offline.bitmaps(disks);
    for (const name of inImages.keys()) {
      if (name.startsWith(BITMAP_PREFIX) && !targetsOf.has(name))
        targetsOf.set(
          name,
          disks.map((disk) => disk.target),
        );
    }
    const statuses: BitmapStatus[] = [];
    for (const [name, all] of targetsOf) {
      const some = all.filter((target) => of?.includes(target) === true);
      const targets = some.length > 0 ? some : all;
      const found = inImages.get(name) ?? [];
      const detached = targets.find((target) => !disks.some((disk) => disk.target === target));
      const flaw = isActive(domain)
        ? () => this.#running.flawOf(domain, targets, name)
        : () => flawAtRest(targets, found);
      const why = detached === undefined ? await flaw() : bitmapMissing(detached);
      statuses.push(why === undefined ? { name, usable: true } : { name, usable: false, why });
    }
    return statuses;
  }

  async #trackable(domain: DomainRef): Promise<DefinedDisk[]> {
    return (await this.#domains.describe(domain)).disks.filter((disk) => disk.unsupported === undefined);
  }

  async #exclusively<T>(vmId: string, what: string, work: (domain: DomainRef, tracked: Tracked) => Promise<T>) {
    const tracked = this.#of(vmId);
    return await tracked.gate.run(what, async () => await work(await this.#domains.find(vmId), tracked));
  }

  #of(vmId: string): Tracked {
    if (!UUID.test(vmId)) throw new Failure('bad-request', `"${vmId}" is not the id of a VM`); // it becomes a path
    let tracked = this.#tracked.get(vmId);
    if (tracked === undefined) {
      const path = join(this.#root, vmId);
      const directory = new PointDirectory(this.#root, vmId);
      tracked = { gate: new Gate(), directory, ledger: new BitmapLedger(path), agent: new AgentWatch() };
      this.#tracked.set(vmId, tracked);
    }
    return tracked;
  }
}

/** Failure `guest-starting` while the VM's agent may come any moment. */
async function agentIsLost(agent: AgentWatch, domain: DomainRef, description: DomainDescription): Promise<boolean> {
  const channel = description.agentChannel;
  const ageMs = channel === 'silent' ? ((await qemuAge(domain.name)) ?? 0) : 0;
  const outlook = agent.look({ life: domain.number, channel, ageMs, now: performance.now() });
  if (outlook !== 'coming') return outlook === 'lost';
  throw new Failure('guest-starting', `VM ${domain.name} has just started, and its guest agent is on its way`);
}

/** Names in the headers of images that QEMU has open: what it loaded, not what it started since. */
async function namesInUse(disks: readonly DefinedDisk[]): Promise<Map<string, BitmapAtRest[]>> {
  const infos = await Promise.all(disks.map(({ path, format }) => imageInfo(path, { format, inUse: true })));
  return new Map(infos.flatMap((info) => info.bitmaps.map((bitmap) => [bitmap.name, []])));
}

/** Why a bitmap of a VM that is off can't be relied on. */
function flawAtRest(targets: readonly string[], found: readonly BitmapAtRest[]): string | undefined {
  for (const target of targets) {
    const bitmap = found.find((one) => one.target === target);
    if (bitmap === undefined) return bitmapMissing(target);
    if (bitmap.why !== undefined) return bitmap.why;
  }
  return undefined;
}

function ours(name: string): void {
  if (name.startsWith(BITMAP_PREFIX)) return;
  throw new Failure('bad-request', `bitmap "${name}" is not ours: its name doesn't begin with ${BITMAP_PREFIX}`);
}

function lost(domain: DomainRef, name: string): Failure {
  return new Failure('tracking-lost', `bitmap ${name} of VM ${domain.name} can't be relied on; drop it first`);
}
