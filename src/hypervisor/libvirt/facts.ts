import type { XmlElement } from 'libxml2-wasm';
import { attribute, element, elements, withXml } from './domain-xml.ts';

/** What is the VM's on this host, and says nothing about the VM: places of elements and attributes. */
const OF_THE_HOST = new Set([
  'name',
  'uuid',
  '@id',
  'sysinfo/system/entry[uuid]',
  'devices/disk/source',
  'devices/disk/encryption',
  'devices/disk/backingStore',
  'devices/disk/mirror',
  'devices/disk/@type',
  'devices/disk/driver/@type',
]);

/** Text or attribute of each place of a definition: `vcpu` → `4`, `devices/interface[52:54:00:aa:bb:01]/source@network` → `default`. */
export function factsOf(definition: string): Record<string, string> {
  return withXml(definition, (document) => {
    const facts = new Map<string, string>();
    collect(document.root, '', '', facts);
    return Object.fromEntries(facts);
  });
}

/** @param place the way to the element; `kind` the same without what tells it from its like. */
function collect(node: XmlElement, place: string, kind: string, facts: Map<string, string>): void {
  for (const { name, value } of node.attrs) {
    if (!OF_THE_HOST.has(kind === '' ? `@${name}` : `${kind}/@${name}`)) facts.set(`${place}@${name}`, value);
  }
  const inside = elements(node, '*');
  const text = inside.length === 0 ? node.content.trim() : '';
  if (text !== '' || (inside.length === 0 && node.attrs.length === 0)) facts.set(place, text);
  const seen = new Map<string, number>();
  for (const child of inside) {
    const word = labelOf(child);
    const label = word ?? String(nextOf(seen, child.name));
    const isFirst = word === undefined && label === '1';
    const way = (before: string, last: string): string => (before === '' ? last : `${before}/${last}`);
    const childKind = way(kind, child.name);
    if (OF_THE_HOST.has(childKind) || OF_THE_HOST.has(`${childKind}[${label}]`)) continue;
    collect(child, way(place, isFirst ? child.name : `${child.name}[${label}]`), childKind, facts);
  }
}

/** What tells an element from its like wherever it stands among them. */
function labelOf(node: XmlElement): string | undefined {
  switch (node.name) {
    case 'interface':
      return attribute(element(node, 'mac'), 'address')?.toLowerCase();
    case 'disk':
      return attribute(element(node, 'target'), 'dev');
    case 'feature':
    case 'entry':
      return attribute(node, 'name');
    case 'controller':
      return `${attribute(node, 'type') ?? ''} ${attribute(node, 'index') ?? ''}`;
    default:
      return undefined;
  }
}

function nextOf(seen: Map<string, number>, name: string): number {
  const next = (seen.get(name) ?? 0) + 1;
  seen.set(name, next);
  return next;
}
