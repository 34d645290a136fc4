import { XmlDocument, XmlElement, type XmlNode } from 'libxml2-wasm';
import { Failure } from '../../model/failure.ts';
import type { AgentChannel } from './agent-watch.ts';

/** A hard disk of a definition (`device='disk'`): CD-ROMs, floppies and raw SCSI devices aren't listed. */
export interface DefinedDisk {
  readonly target: string;
  /** Absolute path of image or block device; empty for a disk that is neither. */
  readonly path: string;
  readonly format: string;
  /** Why changes of this disk can't be tracked, as far as the definition tells. */
  readonly unsupported?: string;
  /** It is raw, and that alone is why. */
  readonly raw?: true;
  /** Path of the image under this one; only a live definition knows. */
  readonly backing?: string;
  /** An image of the disk is encrypted, and what is read of it through QEMU is plain text. */
  readonly encryption?: DiskEncryption;
}

export interface DiskEncryption {
  /** libvirt's secret that the topmost image is opened with; undefined where only one under it is encrypted, as far as the definition tells. */
  readonly secret?: SecretName;
}

/** As a definition names a secret: one of the two is there. */
export interface SecretName {
  readonly uuid?: string;
  readonly usage?: string;
}

export interface DomainDescription {
  readonly id: string;
  readonly name: string;
  readonly disks: readonly DefinedDisk[];
  /** What belongs to the VM and is in no disk of it. */
  readonly besidesDisks: readonly string[];
  /** Of the guest agent; only a live definition knows whether somebody has it open. */
  readonly agentChannel: AgentChannel;
  /** User that this VM's QEMU runs as; only a live definition knows, and only under a privileged libvirt. */
  readonly owner?: QemuOwner;
}

export interface QemuOwner {
  readonly uid: number;
  readonly gid: number;
}

/** Parses XML, gives it to `work`, and frees it, whatever happens: wasm memory isn't garbage-collected. */
export function withXml<T>(xml: string, work: (document: XmlDocument) => T): T {
  let document: XmlDocument;
  try {
    document = XmlDocument.fromString(xml);
  } catch (error) {
    throw new Failure('bad-request', `not well-formed XML: ${String(error)}`, { cause: error });
  }
  try {
    return work(document);
  } finally {
    document.dispose();
  }
}

/** The elements that a path selects. */
export function elements(node: XmlNode | XmlDocument, xpath: string): XmlElement[] {
  return node.find(xpath).filter((found) => found instanceof XmlElement);
}

export function element(node: XmlNode | XmlDocument, xpath: string): XmlElement | undefined {
  return elements(node, xpath)[0];
}

export function attribute(node: XmlElement | undefined, name: string): string | undefined {
  return node?.attr(name)?.value;
}

/** What a domain definition, live or inactive, says about the VM. */
export function describeDomain(xml: string): DomainDescription {
  return withXml(xml, (document) => ({
    ...ownerOf(document),
    id: (element(document, '/domain/uuid')?.content ?? '').toLowerCase(),
    name: element(document, '/domain/name')?.content ?? '',
    disks: elements(document, '/domain/devices/disk')
      .filter((disk) => (attribute(disk, 'device') ?? 'disk') === 'disk')
      .map(describeDisk),
    besidesDisks: besidesDisks(document),
    agentChannel: agentChannel(document),
  }));
}

function agentChannel(document: XmlDocument): AgentChannel {
  const target = element(document, "/domain/devices/channel/target[@name='org.qemu.guest_agent.0']");
  if (target === undefined) return 'none';
  return attribute(target, 'state') === 'connected' ? 'connected' : 'silent';
}

const BESIDES_DISKS: Readonly<Record<string, string>> = {
  "/domain/os/nvram | /domain/os[@firmware='efi']": 'its UEFI variables',
  "/domain/devices/tpm/backend[@type='emulator']":
    'what its TPM holds (have at hand the recovery keys of what the guest unlocks by it)',
  '/domain/devices/filesystem': 'directories of this host that it shares',
  "/domain/devices/hostdev | /domain/devices/interface[@type='hostdev']":
    'devices of this host that are passed through to it',
};

function besidesDisks(document: XmlDocument): string[] {
  return Object.entries(BESIDES_DISKS).flatMap(([path, what]) => (element(document, path) === undefined ? [] : [what]));
}

/** Whom libvirt runs VMs as by default, from its capabilities. */
export function vmUserOf(capabilities: string): QemuOwner | undefined {
  return withXml(capabilities, (document) => {
    const models = elements(document, '/capabilities/host/secmodel').filter(
      (model) => element(model, 'model')?.content === 'dac',
    );
    const label = models[0] === undefined ? '' : (element(models[0], 'baselabel')?.content ?? '');
    return ownerIn(label);
  });
}

/** libvirt gives every VM a label of user and group when it starts it: `+64055:+64055`. */
function ownerOf(document: XmlDocument): { owner?: QemuOwner } {
  const owner = ownerIn(element(document, "/domain/seclabel[@model='dac']/label")?.content ?? '');
  return owner === undefined ? {} : { owner };
}

function ownerIn(label: string): QemuOwner | undefined {
  const ids = /^\+?(\d+):\+?(\d+)$/.exec(label.trim());
  return ids === null ? undefined : { uid: Number(ids[1]), gid: Number(ids[2]) };
}

function describeDisk(disk: XmlElement): DefinedDisk {
  const source = element(disk, 'source');
  const path = attribute(source, 'file') ?? attribute(source, 'dev') ?? '';
  const format = attribute(element(disk, 'driver'), 'type') ?? 'raw';
  const backingSource = element(disk, 'backingStore/source');
  const backing = attribute(backingSource, 'file') ?? attribute(backingSource, 'dev');
  const unsupported = whyUntracked(disk, path, format);
  const encryption = encryptionOf(disk);
  return {
    target: attribute(element(disk, 'target'), 'dev') ?? '',
    path,
    format,
    ...(unsupported === undefined ? {} : { unsupported }),
    ...(format === 'raw' && isPlain(disk) && whyUntracked(disk, path, 'qcow2') === undefined
      ? { raw: true as const }
      : {}),
    ...(backing === undefined ? {} : { backing }),
    ...(encryption === undefined ? {} : { encryption }),
  };
}

/** Of the disk itself, or of an image under it: a copy that is being made (`mirror`) isn't what is read. */
function encryptionOf(disk: XmlElement): DiskEncryption | undefined {
  const top = element(disk, 'encryption | source/encryption');
  if (top === undefined && element(disk, 'backingStore//encryption') === undefined) return undefined;
  const named = top === undefined ? undefined : element(top, 'secret');
  const [uuid, usage] = [attribute(named, 'uuid'), attribute(named, 'usage')];
  const secret = { ...(uuid === undefined ? {} : { uuid }), ...(usage === undefined ? {} : { usage }) };
  return uuid === undefined && usage === undefined ? {} : { secret };
}

/** Its bytes are all of the file or block device, as they are: no slice, key or label of its own would get lost with another image. */
function isPlain(disk: XmlElement): boolean {
  return element(disk, 'source/* | encryption | auth | mirror') === undefined;
}

/** libvirt keeps change bitmaps in qcow2 images only (tried: raw and vpc are refused). */
function whyUntracked(disk: XmlElement, path: string, format: string): string | undefined {
  if (path === '') return `it is neither a file nor a block device (type ${attribute(disk, 'type') ?? 'unknown'})`;
  if (element(disk, 'transient') !== undefined) return 'it is transient: its changes are thrown away';
  if (element(disk, 'readonly') !== undefined) return 'it is read-only';
  if (element(disk, 'shareable') !== undefined) return 'it is shared by several VMs';
  if (format !== 'qcow2') return `its format is ${format}, and changes can only be tracked in qcow2`;
  return undefined;
}
