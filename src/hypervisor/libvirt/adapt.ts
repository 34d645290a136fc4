import type { XmlDocument, XmlElement } from 'libxml2-wasm';
import type { AdaptRequest } from '../hypervisor.ts';
import { attribute, element, elements, withXml } from './domain-xml.ts';

/** What a host finds in places of its own: kept as they are here, unless the other host has others than before. */
const PROGRAMS = ['/domain/devices/emulator', '/domain/os/loader', '/domain/os/nvram'] as const;
/** What an adapter is connected to. */
const CONNECTION = 'source | virtualport | vlan';
const DRIVES: ReadonlySet<string> = new Set(['cdrom', 'floppy']);

/** See `Hypervisor.adaptDefinition`. */
export function adaptDefinition({
  definition,
  previous = '<domain/>',
  own,
  targets,
  networks = {},
}: AdaptRequest): string {
  const isKnown = previous !== '<domain/>';
  return withXml(definition, (document) =>
    withXml(own, (mine) =>
      withXml(previous, (before) => {
        for (const path of PROGRAMS) {
          const [theirs, ours] = [element(document, path), element(mine, path)];
          if (theirs === undefined || ours === undefined) continue;
          if (!isKnown || element(before, path)?.toString() === theirs.toString()) become(theirs, ours);
        }
        const [mineByMac, beforeByMac] = [adaptersOf(mine), adaptersOf(before)];
        for (const [mac, theirs] of adaptersOf(document)) {
          const ours = mineByMac.get(mac);
          if (rename(theirs, networks) || ours === undefined) continue;
          const told = beforeByMac.get(mac);
          if (!isKnown || (told !== undefined && connection(told) === connection(theirs))) connectAs(theirs, ours);
        }
        ownDisks(document, mine, new Set(targets));
        plainDisks(document, targets);
        return document.toString({ noDeclaration: true });
      }),
    ),
  );
}

function adaptersOf(document: XmlDocument): Map<string, XmlElement> {
  const all = elements(document, '/domain/devices/interface');
  return new Map(all.map((one) => [(attribute(element(one, 'mac'), 'address') ?? '').toLowerCase(), one]));
}

/** @returns whether there is a name of this host for what the adapter is connected to there. */
function rename(adapter: XmlElement, networks: Readonly<Record<string, string>>): boolean {
  const source = element(adapter, 'source');
  for (const kind of ['network', 'bridge'] as const) {
    const name = attribute(source, kind);
    if (attribute(adapter, 'type') !== kind || name === undefined || !Object.hasOwn(networks, name)) continue;
    source!.setAttr(kind, networks[name]!);
    return true;
  }
  return false;
}

function connection(adapter: XmlElement): string {
  const parts = elements(adapter, CONNECTION).map((part) => part.toString());
  return [attribute(adapter, 'type') ?? '', ...parts].join('\n');
}

function connectAs(theirs: XmlElement, ours: XmlElement): void {
  for (const part of elements(theirs, CONNECTION)) part.remove();
  theirs.setAttr('type', attribute(ours, 'type') ?? '');
  for (const part of elements(ours, CONNECTION)) become(theirs.addElement(part.name), part);
}

/** Disks that aren't replicated are each host's own: none comes from the other, and those of this host stay. Drives keep their media. */
function ownDisks(document: XmlDocument, mine: XmlDocument, replicated: ReadonlySet<string>): void {
  const own = new Map(
    elements(mine, '/domain/devices/disk')
      .filter((disk) => !replicated.has(targetOf(disk)))
      .map((disk) => [targetOf(disk), disk]),
  );
  for (const disk of elements(document, '/domain/devices/disk')) {
    const target = targetOf(disk);
    const ours = own.get(target);
    if (replicated.has(target)) continue;
    if (!isDrive(disk)) disk.remove();
    else if (ours !== undefined && isDrive(ours)) become(disk, ours);
    else for (const medium of elements(disk, 'source | backingStore')) medium.remove();
  }
  const devices = element(document, '/domain/devices');
  for (const ours of own.values()) if (!isDrive(ours)) addDisk(devices, ours, document);
}

/** A replica's images are plain (an encrypted one is never made a replica's), whatever the other host's are, or this host's once were. */
function plainDisks(document: XmlDocument, targets: readonly string[]): void {
  for (const disk of elements(document, '/domain/devices/disk')) {
    if (!targets.includes(targetOf(disk))) continue;
    for (const one of elements(disk, 'encryption | source/encryption')) one.remove();
  }
}

function addDisk(devices: XmlElement | undefined, ours: XmlElement, document: XmlDocument): void {
  if (devices === undefined) return;
  const places = new Set(elements(document, '/domain/devices/*/address').map(placeOf));
  const disk = devices.addElement('disk');
  become(disk, ours);
  // One that another device has by now: libvirt finds a new one.
  for (const address of elements(disk, 'address')) if (places.has(placeOf(address))) address.remove();
}

function placeOf(address: XmlElement): string {
  return ['type', 'domain', 'bus', 'slot', 'function', 'controller', 'target', 'unit']
    .map((name) => attribute(address, name) ?? '')
    .join(' ');
}

function targetOf(disk: XmlElement): string {
  return attribute(element(disk, 'target'), 'dev') ?? '';
}

function isDrive(disk: XmlElement): boolean {
  return DRIVES.has(attribute(disk, 'device') ?? 'disk');
}

/** Makes an element what one of another document is. */
function become(to: XmlElement, from: XmlElement): void {
  for (const old of to.find('node()')) old.remove();
  for (const old of to.attrs) old.remove();
  for (const { name, value } of from.attrs) to.setAttr(name, value);
  const inside = elements(from, '*');
  for (const child of inside) become(to.addElement(child.name), child);
  if (inside.length === 0 && from.content !== '') to.addText(from.content);
}
