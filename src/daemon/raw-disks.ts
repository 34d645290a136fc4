/**
 * Raw disks that are to be put under tracking, or given back: at once where the VM is off, else when it is seen off next. Never while it runs:
 * a VM that is defined on another image than it runs on would come up with a wrong disk after a resize or a `blockcopy`.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { rawUnder, trackingImageUnder } from '../failover/raw-disk.ts';
import type { Vm, VmDisk } from '../hypervisor/hypervisor.ts';
import { asFailure, Failure } from '../model/failure.ts';
import { presentDisks } from '../model/shape.ts';
import { runsHere } from '../model/role.ts';
import { tracksRawDisks } from '../model/versions.ts';
import { TRACKING_SUFFIX } from '../qemu/tracking-image.ts';
import type { RelationshipRecord } from '../store/store.ts';
import type { DaemonServices } from './services.ts';
import { untracked } from './untracked.ts';

type RawDiskServices = Pick<DaemonServices, 'actions' | 'config' | 'events' | 'hypervisor' | 'store' | 'log'>;

const PLAN = { track: 'track-raw-disk', untrack: 'untrack-raw-disk' } as const;

const wishSchema = z.object({ vmId: z.string(), target: z.string(), what: z.enum(['track', 'untrack']) });
export type Wish = z.infer<typeof wishSchema>;

const KEY = 'raw disks';

/** What waits for a power-off, in the order in which it was asked for. */
export function wishes({ store }: Pick<RawDiskServices, 'store'>): Wish[] {
  const kept = store.setting(KEY);
  return kept === undefined ? [] : z.array(wishSchema).parse(JSON.parse(kept));
}

/** At most one for a disk: the last one counts. */
export function putWish(services: Pick<RawDiskServices, 'store'>, wish: Wish): void {
  setWishes(services, [...without(services, wish), wish]);
}

/** @returns whether there was one. */
export function dropWish(services: Pick<RawDiskServices, 'store'>, disk: Pick<Wish, 'vmId' | 'target'>): boolean {
  const left = without(services, disk);
  const there = left.length < wishes(services).length;
  if (there) setWishes(services, left);
  return there;
}

function without(services: Pick<RawDiskServices, 'store'>, { vmId, target }: Pick<Wish, 'vmId' | 'target'>): Wish[] {
  return wishes(services).filter((wish) => wish.vmId !== vmId || wish.target !== target);
}

function setWishes({ store }: Pick<RawDiskServices, 'store'>, all: readonly Wish[]): void {
  store.setSetting(KEY, JSON.stringify(all));
}

export interface RawDisk {
  readonly target: string;
  readonly raw: string;
  readonly image: string;
}

/** Those of a VM that are under tracking. */
export async function trackedRawDisks({ disks }: Pick<Vm, 'disks'>): Promise<RawDisk[]> {
  const found: RawDisk[] = [];
  for (const disk of disks) {
    const raw = await rawUnder(disk);
    if (raw !== undefined) found.push({ target: disk.target, raw, image: disk.path });
  }
  return found;
}

/**
 * What a plan would work on. Failures: `not-found`, `bad-request` where that disk is nothing of the kind, `disk-unsupported`, `wrong-state`,
 * `wrong-role`.
 */
export async function rawDiskOf(
  services: RawDiskServices,
  vm: Vm,
  { target, what }: Pick<Wish, 'target' | 'what'>,
): Promise<RawDisk> {
  const disk = vm.disks.find((one) => one.target === target);
  if (disk === undefined) throw new Failure('not-found', `${vm.name} has no disk ${target}`);
  const record = services.store.relationships().find(({ vmId }) => vmId === vm.id);
  requireOurs(vm, record);
  if (what === 'track') return await trackable(services, vm, disk);
  const raw = await rawUnder(disk);
  if (raw === undefined) {
    const covered = await trackingImageUnder(disk);
    if (covered !== undefined) throw underSnapshot(vm.name, target, covered);
    throw new Failure('bad-request', `${vm.name}, disk ${target} is no raw disk under tracking`);
  }
  if (record !== undefined && presentDisks(record.disks).some((one) => one.target === target)) {
    throw new Failure(
      'wrong-state',
      `${vm.name}, disk ${target} is replicated to ${record.peer}, which needs the tracking`,
      {
        hint: `\`understudy replication set ${vm.name} --exclude-disk ${target}\` goes on without it; \`understudy detach ${vm.name}\` ends replication and gives it back.`,
      },
    );
  }
  return { target, raw, image: disk.path };
}

function underSnapshot(vmName: string, target: string, image: string): Failure {
  return new Failure('wrong-state', `${vmName}, disk ${target}: a snapshot lies over its tracking image ${image}`, {
    hint: `Merge it first: \`virsh blockcommit ${vmName} ${target} --active --pivot\` while the VM runs.`,
  });
}

async function trackable({ hypervisor, config }: RawDiskServices, vm: Vm, disk: VmDisk): Promise<RawDisk> {
  const { target, path } = disk;
  const versions = await hypervisor.versions();
  if (disk.unsupported === undefined) {
    throw new Failure('bad-request', `${vm.name}, disk ${target} can be replicated as it is`);
  }
  if (disk.raw !== true || !tracksRawDisks(versions)) throw untracked(vm.name, disk, versions);
  const ofBlockDevice = join(config.trackingDirectory, `${vm.id}-${target}`);
  return { target, raw: path, image: `${path.startsWith('/dev/') ? ofBlockDevice : path}${TRACKING_SUFFIX}` };
}

/** A VM that is another host's to run keeps the definition that it has. */
function requireOurs({ name, transient }: Vm, record: RelationshipRecord | undefined): void {
  if (transient === true) {
    throw new Failure('wrong-state', `VM ${name} has no persistent definition`, {
      hint: 'Define it first: `virsh dumpxml`, `virsh define`.',
    });
  }
  if (record === undefined || runsHere(record)) return;
  throw new Failure('wrong-role', `${name} is ${record.peer}'s to run now: its disks stay as they are here`);
}

/** Does what was asked for, of a VM that is off. Failures as of the plans and of `rawDiskOf`. */
export async function fulfil(services: RawDiskServices, vm: Vm, wish: Wish): Promise<RawDisk> {
  const disk = await rawDiskOf(services, vm, wish);
  const record = services.store.relationships().find(({ vmId }) => vmId === vm.id);
  await services.actions.finish(PLAN[wish.what], record?.id ?? vm.id, { vmId: vm.id, ...disk });
  dropWish(services, wish);
  const { target, raw, image } = disk;
  const text =
    wish.what === 'track'
      ? `disk ${target} of ${vm.name} is under tracking: ${raw} is used through ${image}`
      : `disk ${target} of ${vm.name} is ${raw} again, without tracking`;
  services.events.add(record?.id ?? null, 'info', `raw-disk-${wish.what}ed`, text);
  return disk;
}

/** After a failure a disk is left alone for so long, ms, unless the VM has run meanwhile: what only a person can change takes a while. */
const PATIENCE_MS = { soon: 5000, never: 600_000 };

/** Looks whether a VM is off that somebody has a wish for. Never rejects. */
export class RawDiskRounds {
  readonly #services: RawDiskServices;
  readonly #notBefore = new Map<string, number>();
  readonly #told = new Map<string, string>();

  constructor(services: RawDiskServices) {
    this.#services = services;
  }

  async look(): Promise<void> {
    for (const wish of wishes(this.#services)) {
      const key = `${wish.vmId} ${wish.target}`;
      try {
        await this.#lookAt(wish, key);
      } catch (error) {
        const failure = asFailure(error);
        const patience = failure.retry === 'never' ? PATIENCE_MS.never : PATIENCE_MS.soon;
        this.#notBefore.set(key, performance.now() + patience);
        this.#tell(wish, key, failure);
      }
    }
  }

  async #lookAt(wish: Wish, key: string): Promise<void> {
    const { hypervisor } = this.#services;
    if ((await hypervisor.vmStatus(wish.vmId)).state !== 'off') {
      this.#notBefore.delete(key);
    } else if (performance.now() >= (this.#notBefore.get(key) ?? 0)) {
      await fulfil(this.#services, await hypervisor.getVm(wish.vmId), wish);
    }
  }

  /** What only a person can change is an event, once. */
  #tell(wish: Wish, key: string, failure: Failure): void {
    const { log, events } = this.#services;
    log.warn({ vm: wish.vmId, disk: wish.target, code: failure.code, err: failure.cause }, failure.message);
    if (failure.code === 'not-found') dropWish(this.#services, wish);
    if (failure.retry !== 'never' || this.#told.get(key) === failure.message) return;
    this.#told.set(key, failure.message);
    events.add(null, 'warning', 'raw-disk-held-up', `${failure.message}. ${failure.hint}`);
  }
}
