import assert from 'node:assert/strict';
import { test } from 'node:test';
import { adaptDefinition } from './adapt.ts';
import { attribute, element, elements, withXml } from './domain-xml.ts';

interface Parts {
  readonly memory?: number;
  readonly emulator?: string;
  readonly source?: string;
  readonly disks?: string;
}

const VDA = "<disk type='file' device='disk'><source file='/vda'/><target dev='vda'/></disk>";
const SCRATCH = (slot: string) =>
  `<disk type='file' device='disk'><source file='/scratch'/><target dev='vdb'/><address type='pci' slot='${slot}'/></disk>`;
const CD = (file: string) => `<disk type='file' device='cdrom'>${file}<target dev='sda'/></disk>`;

function xml({ memory = 1, emulator = '/usr/bin/qemu', source = "<source network='lan'/>", disks = VDA }: Parts = {}) {
  return `<domain><memory>${memory}</memory><os><loader>/fw/${emulator}</loader></os><devices><emulator>${emulator}</emulator>${disks}
    <interface type='network'><mac address='52:54:00:00:00:01'/>${source}<model type='virtio'/><address type='pci' slot='0x03'/></interface></devices></domain>`;
}

function adapt(parts: Parts, own: Parts, previous?: Parts) {
  const given = { definition: xml(parts), own: xml(own), targets: ['vda'] };
  return adaptDefinition(previous === undefined ? given : { ...given, previous: xml(previous) });
}

const network = (definition: string) =>
  withXml(definition, (document) => attribute(element(document, '//interface/source'), 'network'));
const content = (definition: string, path: string) =>
  withXml(definition, (document) => element(document, path)?.content);
const disks = (definition: string) =>
  withXml(definition, (document) =>
    elements(document, '//disk').map((disk) => [
      attribute(element(disk, 'target'), 'dev'),
      attribute(element(disk, 'source'), 'file'),
      attribute(element(disk, 'address'), 'slot'),
    ]),
  );

void test('what the other host has changed follows, what is its own affair does not', () => {
  const theirs = { memory: 2, emulator: '/opt/qemu' };
  const here = adapt(theirs, { source: "<source network='here'/>" }, { emulator: '/opt/qemu' });
  assert.equal(content(here, '/domain/memory'), '2');
  assert.equal(content(here, '//emulator'), '/usr/bin/qemu');
  assert.equal(content(here, '//loader'), '/fw//usr/bin/qemu');
  assert.equal(network(here), 'here');
});

void test('an adapter that was connected to something else there is so here, too', () => {
  const here = adapt({ source: "<source network='dmz'/>" }, { source: "<source network='here'/>" }, {});
  assert.equal(network(here), 'dmz');
});

void test('from a host that has just got the role nothing is known: what this host had stays', () => {
  const own = { source: "<source network='here'/><virtualport type='openvswitch'/>" };
  const here = adapt({ memory: 2, emulator: '/opt/qemu', source: "<source network='there'/>" }, own);
  assert.equal(network(here), 'here');
  assert.match(here, /<virtualport type="openvswitch"\/>/);
  assert.equal(content(here, '//emulator'), '/usr/bin/qemu');
  assert.equal(content(here, '/domain/memory'), '2');
});

void test('disks that are not replicated, and media, are those of this host', () => {
  const theirs = VDA + "<disk type='file' device='disk'><source file='/theirs'/><target dev='vdz'/></disk>";
  const here = adapt(
    { disks: theirs + CD("<source file='/their.iso'/>") },
    { disks: VDA + SCRATCH('0x07') + CD('') },
    {},
  );
  assert.deepEqual(disks(here), [
    ['vda', '/vda', undefined],
    ['sda', undefined, undefined],
    ['vdb', '/scratch', '0x07'],
  ]);
  const kept = adapt({ disks: VDA + CD('') }, { disks: VDA + CD("<source file='/our.iso'/>") }, {});
  assert.deepEqual(disks(kept)[1], ['sda', '/our.iso', undefined]);
  const ejected = adapt({ disks: VDA + CD("<source file='/their.iso'/>") }, {}, {});
  assert.deepEqual(disks(ejected)[1], ['sda', undefined, undefined]);
});

void test('a disk of this host whose place another device has got is given a new one', () => {
  const here = adapt({}, { disks: VDA + SCRATCH('0x03') }, {});
  assert.deepEqual(disks(here)[1], ['vdb', '/scratch', undefined]);
});

void test('a network that has a name of its own here is called by that, whatever was before', () => {
  const given = { definition: xml(), own: xml({ source: "<source network='old'/>" }), targets: ['vda'] };
  const networks = { lan: 'here', dmz: 'other' };
  assert.equal(network(adaptDefinition({ ...given, networks })), 'here');
  assert.equal(network(adaptDefinition({ ...given, networks, previous: xml() })), 'here');
  assert.equal(network(adaptDefinition({ ...given, networks: { dmz: 'other' } })), 'old');
});

void test('a replicated disk is plain in what a Replica VM is defined by, whatever it is, or was, on either host', () => {
  const luks = (uuid: string) => `<encryption format='luks'><secret type='passphrase' uuid='${uuid}'/></encryption>`;
  const inSource = (uuid: string) => ({ disks: VDA.replace("'/vda'/>", `'/vda'>${luks(uuid)}</source>`) });
  const inDisk = (uuid: string) => ({ disks: VDA.replace('</disk>', `${luks(uuid)}</disk>`) });
  const secrets = (definition: string) =>
    withXml(definition, (document) => elements(document, '//encryption/secret').map((one) => attribute(one, 'uuid')));
  for (const encrypted of [inSource, inDisk]) {
    assert.deepEqual(secrets(adapt(encrypted('theirs'), {}, {})), []);
    assert.deepEqual(secrets(adapt({}, encrypted('ours'), {})), []);
    assert.deepEqual(secrets(adapt(encrypted('theirs'), { disks: '' })), [], 'a disk that is new here');
    assert.deepEqual(secrets(adapt(inSource('theirs'), encrypted('ours'))), []);
  }
});
