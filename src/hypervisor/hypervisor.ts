/**
 * PORT: the hypervisor, as the engines see it: which VMs there are, their life cycle, and change tracking.
 *
 * Implementations: `libvirt/` (VMs under libvirtd, change tracking by its backup API) and `qsd/` (disks only, opened by
 * qemu-storage-daemon: for disks that no guest runs on, and for tests that need no guest).
 *
 * **Tracking in one picture.** A *bitmap* has a name and records, on every tracked disk of one VM, what the guest
 * has written since the instant of its creation. `openPoint` gives all disks of the VM at one instant, read-only, by
 * NBD, together with the dirty extents since bitmap `since`, and starts bitmap `next` at that same instant. While a
 * point is open each first write to a cluster costs the guest a copy: read at local speed, close, and let the network
 * wait. Closing a point drops no bitmap; `dropBitmap` does, once the replica has acknowledged what was read.
 *
 * Whatever an implementation leaves in a VM (bitmaps, checkpoints, jobs) carries our name prefix, so that anybody
 * can tell it from other tools' and `listBitmaps`/`abandonPoint` can clean up after a crash.
 */
import { Failure } from '../model/failure.ts';
import type { Versions } from '../model/versions.ts';

/** Prefix of every bitmap or checkpoint of ours. */
export const BITMAP_PREFIX = 'understudy-';

export type VmState = 'running' | 'paused' | 'off';

export interface VmDisk {
  /** Device name in the guest's definition, unique in the VM: `vda`. */
  readonly target: string;
  /** Absolute path of the image (or block device) that the VM writes now. */
  readonly path: string;
  /** Image format as defined: `qcow2`, `raw`, … Never probed. */
  readonly format: string;
  /** Virtual size in bytes. */
  readonly size: number;
  /** Why changes of this disk can't be tracked; undefined where they can. */
  readonly unsupported?: string;
  /** It is a plain raw disk, and that alone is why its changes can't be tracked. */
  readonly raw?: true;
  /** Its image, or one under it, is encrypted: a point of it is plain text all the same. */
  readonly encrypted?: true;
}

/** What can be said of a VM without asking its QEMU anything. */
export interface VmStatus {
  readonly state: VmState;
  /** True when the hypervisor paused the VM since a write of its failed for lack of room, and nothing else keeps it. */
  readonly pausedByIoError: boolean;
  /** True when it is off since a revert to one of its snapshots failed half way. */
  readonly failedRevert?: true;
  /** True when it has no definition to start with again: there is only what runs. */
  readonly transient?: true;
  /** Whether it starts with its host, by the hypervisor's own doing. */
  readonly autostart: boolean;
}

export interface Vm extends VmStatus {
  /** UUID in lower-case canonical form: the identity of the VM on every host. */
  readonly id: string;
  readonly name: string;
  readonly state: VmState;
  readonly disks: readonly VmDisk[];
  /** What belongs to the VM and is in no disk of it, in words: it doesn't travel with the disks. */
  readonly besidesDisks: readonly string[];
}

/** One disk of an open point. */
export interface PointExport {
  readonly target: string;
  /** Absolute path of the NBD server's unix socket. */
  readonly socketPath: string;
  readonly exportName: string;
  /** Virtual size in bytes at the instant of the point. */
  readonly size: number;
  /** NBD meta context whose extents with flag 1 are dirty since `since`; null when everything counts as dirty. */
  readonly dirtyContext: string | null;
}

/** All disks of a VM at one instant. */
export interface Point {
  /** ms since the epoch, this host's clock: whatever the guest had completed by then is in the point. */
  readonly instant: number;
  /** ms since the epoch: nothing that the guest began after it is in the point. */
  readonly instantEnd: number;
  readonly exports: readonly PointExport[];
  /** Absolute paths of files that take what the guest overwrites while the point is open; they grow. None while the VM is off. */
  readonly scratchFiles: readonly string[];
  /** True when the hypervisor knows nothing any more of the VM's guest agent, which was there before. */
  readonly agentLost?: boolean;
}

export interface OpenPointRequest {
  readonly vmId: string;
  /** Targets of the disks to read. */
  readonly targets: readonly string[];
  /** Bitmap that says what changed; null = everything. Failure `tracking-lost` when it is missing or inconsistent. */
  readonly since: string | null;
  /** Bitmap that begins at the point's instant; null = none. */
  readonly next: string | null;
  /** Encrypted disks may be read, too, as plain text: their administrator has said so. Default false: Failure `disk-encrypted`. */
  readonly plaintext?: boolean;
}

export interface BitmapStatus {
  readonly name: string;
  /** False when it can't be relied on (QEMU died with it open, or a disk lacks it). */
  readonly usable: boolean;
  /** Why it isn't, naming the disk. */
  readonly why?: string;
}

/** Of a bitmap that a disk was to have. */
export const bitmapMissing = (target: string): string =>
  `disk ${target} has none of that name: it was removed, or QEMU or its host died, or the disk is another one`;
/** Of one that was open when its QEMU or its host died. */
export const bitmapNotClosed = (target: string): string =>
  `disk ${target} was not closed while it had it: QEMU or its host died`;

/** Of a raw disk that was written past the image which has it. */
export const bitmapWrittenBeside = (target: string): string =>
  `disk ${target} was written beside its tracking image, while nobody had that open`;

/** Nobody has said that what is read of this disk may be stored as plain text. */
export function diskEncrypted(vmName: string, targets: readonly string[]): Failure {
  const text = `${vmName}, disk ${targets.join(', ')}: it is encrypted, and its replica would be plain text`;
  return new Failure('disk-encrypted', text);
}

/** Where a disk of a definition is to be found on this host. */
export interface DiskSource {
  readonly path: string;
  readonly format: 'qcow2' | 'raw';
  /** The image isn't encrypted, whatever the definition says. Left out: it is what the definition says. */
  readonly plain?: true;
}

export interface DefineRequest {
  /** A definition as `exportDefinition` gave it, here or on another host. */
  readonly definition: string;
  readonly id: string;
  readonly name: string;
  /** New source by target. One that the definition doesn't have is added, on the bus that its name tells. */
  readonly disks: ReadonlyMap<string, DiskSource>;
  /** What becomes of disks and removable media that `disks` doesn't name. */
  readonly otherDisks: 'keep' | 'remove';
  /** Absolute path of a directory: a disk whose image would lie there, and that `disks` doesn't name, is taken out in any case. */
  readonly without?: string;
  /** `disconnected`: every network adapter's link is down. */
  readonly network: 'as-defined' | 'disconnected';
  /** What becomes of the memory of a VM that is off and was saved: it goes with the old disks (the default), or Failure `wrong-state`. */
  readonly savedMemory?: 'drop' | 'refuse';
  /** The VM of this host whose secrets (console passwords) it gets; left out: the one of that id, if it is there. */
  readonly secretsOf?: string;
}

/** Of a definition that came from another host: what of it is this host's own business. */
export interface AdaptRequest {
  /** As the other host exported it. */
  readonly definition: string;
  /** What the other host said before; undefined where nothing is known of that, as when it has just got the role. */
  readonly previous?: string;
  /** The VM's definition on this host. */
  readonly own: string;
  /** Targets of the replicated disks. */
  readonly targets: readonly string[];
  /** What networks and bridges of the other host are called here; one that isn't named keeps its name. */
  readonly networks?: Readonly<Record<string, string>>;
}

/** A user of this host, by number. */
export interface HostUser {
  readonly uid: number;
  readonly gid: number;
}

/** What else there is to know of a VM before it is relied on. */
export interface VmInspection {
  /** Whom its QEMU runs as, where that is known and may differ from `vmUser`: of a VM that runs. */
  readonly user?: HostUser;
  /** Of a VM that runs: it has no channel for a guest agent, nobody has it open in the guest, or somebody has. */
  readonly agent?: 'none' | 'silent' | 'connected';
  /** Names of checkpoints that aren't ours. */
  readonly foreignCheckpoints: readonly string[];
  /** Bitmaps in its images that aren't ours, `vda: name`; of a VM that runs, those that were there when it began. */
  readonly foreignBitmaps: readonly string[];
}

export interface Hypervisor {
  /** Whom VMs run as, and so who must be able to open what is made for them; undefined where it is this process's user. */
  vmUser(): Promise<HostUser | undefined>;
  /** Of the programs that it is made of. */
  versions(): Promise<Versions>;
  listVms(): Promise<Vm[]>;
  /** Failure `not-found` when there is none. `ref` is an id or a name. */
  getVm(ref: string): Promise<Vm>;
  /** For whoever looks often. Failure `not-found`. */
  vmStatus(vmId: string): Promise<VmStatus>;
  /** For whoever looks for what may stand in the way. Changes nothing and waits for nobody. Failure `not-found`. */
  inspect(vmId: string): Promise<VmInspection>;

  // --- tracking ---
  /**
   * Starts a bitmap on the named disks of a VM, on or off, at one instant. Does nothing where it exists: of a usable one, the disks that lack
   * it get one of that name which begins now.
   */
  startBitmap(vmId: string, targets: readonly string[], name: string): Promise<void>;
  /**
   * Opens a point of a running, paused or powered-off VM. At most one of ours is open per VM. Failures:
   * `job-conflict` (another tool's job), `guest-starting` (for a minute at most; ask again), `tracking-lost`, `libvirt-down`, `disk-unsupported`,
   * `disk-encrypted` (also where it may be read, but the VM is off, and its key can't be had). After a failure nothing is
   * open and `next` doesn't exist. A powered-off VM can't be started while its point is open.
   */
  openPoint(request: OpenPointRequest): Promise<Point>;
  /** Ends the open point of a VM; both its bitmaps stay. Does nothing when none of ours is open, so that it also ends a predecessor's. */
  closePoint(vmId: string): Promise<void>;
  /**
   * Bitmaps of ours in the VM's disks, whatever the VM's state.
   * @param targets whether they can be relied on there is told; left out: on all disks that they were started on.
   */
  listBitmaps(vmId: string, targets?: readonly string[]): Promise<BitmapStatus[]>;
  /** Removes a bitmap of ours from all disks of the VM, usable or not; none there is no error. */
  dropBitmap(vmId: string, name: string): Promise<void>;

  // --- life cycle ---
  /**
   * The VM's persistent definition, opaque to engines, good for `define` on any host with the same hypervisor. It holds no secret: where
   * there is one (a console's password) it says so, and `define` puts in that of the VM which is there, or keeps everybody out.
   */
  exportDefinition(vmId: string): Promise<string>;
  /**
   * What a definition says, each thing by its place, in a form in which two that mean the same say the same. Not its VM's name and id, nor
   * where the images of its disks are.
   */
  factsOf(definition: string): Promise<Readonly<Record<string, string>>>;
  /**
   * The definition, with what is each host's own as this host has it: disks and media that aren't replicated, programs and firmware, and
   * what an adapter is connected to, unless the other host has changed that since `previous`. Replicated disks are plain in it.
   */
  adaptDefinition(request: AdaptRequest): Promise<string>;
  /** What this host lacks of what a VM of that definition needs to run, in words: a network, a machine type, a file. */
  lackingFor(definition: string): Promise<readonly string[]>;
  /** Defines the VM, or replaces the definition of the VM of that id. It isn't started. */
  define(request: DefineRequest): Promise<void>;
  /** Removes a definition (never a disk). None there is no error. */
  undefine(vmId: string): Promise<void>;
  setAutostart(vmId: string, on: boolean): Promise<void>;
  /** Starts a powered-off VM; a running one is no error. */
  start(vmId: string): Promise<void>;
  /** Asks the guest to shut down (agent, then power button) and waits. Failure `shutdown-timeout`. */
  shutdown(vmId: string, timeoutMs: number): Promise<void>;
  /** Ends the VM at once, as a power cut does. Off already, or none there, is no error. */
  destroy(vmId: string): Promise<void>;
  /** Freezes a running VM's CPUs. */
  suspend(vmId: string): Promise<void>;
  resume(vmId: string): Promise<void>;
  /**
   * Links of the network adapters of a VM that runs or is paused: all down, or as its definition has them. Until it ends. Does nothing
   * while it is off, nor to adapters passed through, whose links aren't the host's.
   */
  setNetwork(vmId: string, network: DefineRequest['network']): Promise<void>;
  /** Merges the VM's overlays (of the named disks) into their backing files and goes on there; the VM may be on or off. */
  commitOverlays(vmId: string, targets: readonly string[]): Promise<void>;

  /** Ends connections; VMs and bitmaps stay. */
  close(): Promise<void>;
}
