import { dirname } from 'node:path';
import type { XmlDocument, XmlElement } from 'libxml2-wasm';
import { Failure } from '../../model/failure.ts';
import type { DefineRequest, DiskSource } from '../hypervisor.ts';
import { attribute, element, elements, withXml } from './domain-xml.ts';

/**
 * A definition for this host, made of one that came from anywhere: identity, disk sources and network links as
 * requested, what belongs to the old host taken out, everything else as it was.
 */
export function rewriteDefinition(request: DefineRequest): string {
  return withXml(request.definition, (document) => {
    if (document.root.name !== 'domain') {
      throw new Failure('bad-request', `not a VM's definition: its root element is <${document.root.name}>`);
    }
    const oldName = element(document, '/domain/name')?.content ?? '';
    setIdentity(document, request.id, request.name);
    if (oldName !== request.name) forgetFirmwareVariables(document, oldName);
    rewriteDisks(document, request);
    forgetGeneratedPaths(document);
    if (request.network === 'disconnected') disconnect(document);
    document.root.attr('id')?.remove(); // a live definition's number
    return document.toString({ noDeclaration: true });
  });
}

/**
 * Network adapters of a running VM whose link is to change, as devices.
 * @param live what runs; `defined` what is to run at the next start: whose links `as-defined` means.
 */
export function changedLinks(live: string, defined: string, network: DefineRequest['network']): string[] {
  const links = withXml(defined, (document) => new Map(adapters(document).map((one) => [macOf(one), linkOf(one)])));
  return withXml(live, (document) =>
    adapters(document).flatMap((adapter) => {
      const wanted = network === 'disconnected' ? 'down' : (links.get(macOf(adapter)) ?? 'up');
      if (linkOf(adapter) === wanted) return [];
      child(adapter, 'link').setAttr('state', wanted);
      return [adapter.toString()];
    }),
  );
}

/** Without those that are passed through. */
function adapters(document: XmlDocument): XmlElement[] {
  return elements(document, '/domain/devices/interface').filter((one) => attribute(one, 'type') !== 'hostdev');
}

function macOf(adapter: XmlElement): string | undefined {
  return attribute(element(adapter, 'mac'), 'address');
}

function linkOf(adapter: XmlElement): string {
  return attribute(element(adapter, 'link'), 'state') ?? 'up';
}

function setIdentity(document: XmlDocument, id: string, name: string): void {
  setText(child(document.root, 'name'), name);
  setText(child(document.root, 'uuid'), id);
  // libvirt refuses a definition whose SMBIOS tables name another UUID
  const smbios = element(document, "/domain/sysinfo/system/entry[@name='uuid']");
  if (smbios !== undefined) setText(smbios, id);
}

/** The file of UEFI variables carries the VM's name: a VM of another name must not share it. libvirt makes a new one. */
function forgetFirmwareVariables(document: XmlDocument, oldName: string): void {
  for (const nvram of elements(document, '/domain/os/nvram')) {
    const file = attribute(element(nvram, 'source'), 'file') ?? nvram.content;
    if (!file.includes(oldName)) continue;
    removeChildren(nvram);
    nvram.attr('type')?.remove();
    if (nvram.attrs.length === 0) nvram.remove();
  }
}

function rewriteDisks(document: XmlDocument, request: DefineRequest): void {
  const found = new Set<string>();
  for (const disk of elements(document, '/domain/devices/disk')) {
    const target = attribute(element(disk, 'target'), 'dev') ?? '';
    const source = request.disks.get(target);
    if (source !== undefined) {
      found.add(target);
      setSource(disk, source);
    } else if (request.without !== undefined && liesIn(disk, request.without)) {
      disk.remove();
    } else if (request.otherDisks === 'remove') {
      if (['cdrom', 'floppy'].includes(attribute(disk, 'device') ?? 'disk')) eject(disk);
      else disk.remove();
    }
  }
  for (const [target, source] of request.disks) if (!found.has(target)) addDisk(document, target, source);
}

function liesIn(disk: XmlElement, directory: string): boolean {
  const file = attribute(element(disk, 'source'), 'file');
  return file !== undefined && dirname(file) === directory;
}

/** A disk that came to the VM after its definition was written: libvirt finds the bus by its name, and a place on it. */
function addDisk(document: XmlDocument, target: string, source: DiskSource): void {
  const devices = child(document.root, 'devices');
  const disk = devices.addElement('disk');
  disk.setAttr('device', 'disk');
  child(disk, 'driver').setAttr('name', 'qemu');
  setSource(disk, source);
  child(disk, 'target').setAttr('dev', target);
}

function setSource(disk: XmlElement, { path, format, plain }: DiskSource): void {
  const [type, key] = path.startsWith('/dev/') ? ['block', 'dev'] : ['file', 'file'];
  // what hangs on the old image: its backing chain, a copy in progress, a login
  for (const stale of elements(disk, 'backingStore|mirror|auth')) stale.remove();
  disk.setAttr('type', type);
  child(disk, 'driver').setAttr('type', format);
  const source = child(disk, 'source');
  for (const old of source.attrs) old.remove();
  for (const old of elements(source, '*[not(self::encryption)]')) old.remove();
  source.setAttr(key, path);
  if (plain === true) for (const one of elements(disk, 'encryption | source/encryption')) one.remove();
}

/** Takes the medium out of a drive. */
function eject(drive: XmlElement): void {
  for (const medium of elements(drive, 'source|backingStore|mirror|auth')) medium.remove();
  drive.setAttr('type', 'file');
}

/** Paths that libvirt made for the VM as it was on its old host. It makes new ones at the next start. */
function forgetGeneratedPaths(document: XmlDocument): void {
  const generated = /\/libvirt\/qemu\/(?:channel|domain-|.*\/domain-)/;
  for (const source of elements(document, "/domain/devices/channel[@type='unix']/source")) {
    if (generated.test(attribute(source, 'path') ?? '')) source.remove();
  }
}

function disconnect(document: XmlDocument): void {
  for (const adapter of elements(document, '/domain/devices/interface')) {
    // a passed-through adapter has no link that the host could put down
    if (attribute(adapter, 'type') === 'hostdev') adapter.remove();
    else child(adapter, 'link').setAttr('state', 'down');
  }
}

function child(parent: XmlElement, name: string): XmlElement {
  return element(parent, name) ?? parent.addElement(name);
}

function setText(target: XmlElement, text: string): void {
  removeChildren(target);
  target.addText(text);
}

function removeChildren(target: XmlElement): void {
  for (const node of target.find('node()')) node.remove();
}
