import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { Failure } from '../../model/failure.ts';
import type { DefineRequest } from '../hypervisor.ts';
import { rewriteDefinition } from './definition.ts';
import { attribute, describeDomain, element, elements, withXml } from './domain-xml.ts';

const OLD_ID = '4dea22b3-1d52-d8f3-2516-782e98ab3fa0';
const NEW_ID = '5c0e1f6a-9a52-4c0e-8d5e-000000000001';

/** As virt-manager makes it: UEFI, a CD-ROM, two adapters, labels; with what libvirt adds while it runs. */
const VIRT_MANAGER = `<domain type='kvm' id='7' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>web</name>
  <uuid>${OLD_ID.toUpperCase()}</uuid>
  <metadata><libosinfo:libosinfo xmlns:libosinfo="http://libosinfo.org/xmlns/libvirt/domain/1.0"><libosinfo:os id="http://debian.org/debian/12"/></libosinfo:libosinfo></metadata>
  <!-- the administrator's own words -->
  <os firmware='efi'>
    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
    <loader readonly='yes' secure='yes' type='pflash'>/usr/share/OVMF/OVMF_CODE_4M.ms.fd</loader>
    <nvram template='/usr/share/OVMF/OVMF_VARS_4M.ms.fd'>/var/lib/libvirt/qemu/nvram/web_VARS.fd</nvram>
  </os>
  <sysinfo type='smbios'><system><entry name='serial'>S1</entry><entry name='uuid'>${OLD_ID}</entry></system></sysinfo>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' cache='none' discard='unmap' io='native'/>
      <source file='/var/lib/libvirt/images/web-snap1.qcow2' index='2'><seclabel model='dac' relabel='no'/></source>
      <backingStore type='file' index='3'><format type='qcow2'/><source file='/var/lib/libvirt/images/web.qcow2'/><backingStore/></backingStore>
      <target dev='vda' bus='virtio'/>
      <serial>WEB-0001</serial>
      <iotune><total_iops_sec>500</total_iops_sec></iotune>
      <boot order='1'/>
      <address type='pci' domain='0x0000' bus='0x04' slot='0x00' function='0x0'/>
    </disk>
    <disk type='block' device='disk'>
      <driver name='qemu' type='raw'/><source dev='/dev/vg0/data'/><target dev='vdb' bus='virtio'/>
    </disk>
    <disk type='file' device='cdrom'>
      <driver name='qemu' type='raw'/><source file='/isos/debian-12.iso'/><target dev='sda' bus='sata'/><readonly/><boot order='2'/>
    </disk>
    <interface type='network'><mac address='52:54:00:aa:bb:01'/><source network='default'/><model type='virtio'/><link state='up'/></interface>
    <interface type='bridge'><mac address='52:54:00:aa:bb:02'/><source bridge='br0'/><model type='virtio'/></interface>
    <interface type='hostdev' managed='yes'><mac address='52:54:00:aa:bb:03'/><source><address type='pci' domain='0x0000' bus='0x03' slot='0x10' function='0x1'/></source></interface>
    <channel type='unix'><source mode='bind' path='/var/lib/libvirt/qemu/channel/target/domain-7-web/org.qemu.guest_agent.0'/><target type='virtio' name='org.qemu.guest_agent.0' state='connected'/></channel>
    <channel type='unix'><source mode='bind' path='/run/mine/own.sock'/><target type='virtio' name='mine'/></channel>
    <tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>
  </devices>
  <seclabel type='dynamic' model='dac' relabel='yes'><label>+64055:+107</label></seclabel>
  <qemu:commandline><qemu:arg value='-nodefaults'/></qemu:commandline>
</domain>`;

/** As small as libvirt takes it. */
const MINIMAL = `<domain type='qemu'><name>tiny</name><memory>65536</memory><os><type>hvm</type></os>
  <devices><disk type='network' device='disk'><driver name='qemu' type='qcow2'/><auth username='u'><secret type='ceph' uuid='${OLD_ID}'/></auth>
  <source protocol='rbd' name='pool/tiny'><host name='mon'/></source><target dev='vda'/></disk>
  <disk type='file'><source file='/images/old.img'/><target dev='hda' bus='ide'/></disk></devices></domain>`;

function rewrite(definition: string, change: Partial<DefineRequest> = {}): string {
  const same = { id: OLD_ID, name: 'web', disks: new Map(), otherDisks: 'keep', network: 'as-defined' } as const;
  return rewriteDefinition({ definition, ...same, ...change });
}

/** Text or attribute (`path/@name`) at a path, in the order of the document. */
function read(xml: string, xpath: string): string[] {
  return withXml(xml, (document) => document.find(xpath).map((node) => node.content));
}

describe('a domain definition', () => {
  test('gets a disk that it lacks, and loses one whose image lies where none is', () => {
    const disks = new Map([['vdx', { path: '/replicas/vdx.qcow2', format: 'qcow2' as const }]]);
    const added = rewrite(VIRT_MANAGER, { disks });
    assert.deepEqual(read(added, "//disk[target/@dev='vdx']/source/@file"), ['/replicas/vdx.qcow2']);
    assert.deepEqual(read(added, "//disk[target/@dev='vdx']/driver/@type"), ['qcow2']);
    const without = rewrite(added, { without: '/replicas' });
    assert.deepEqual(read(without, '//disk/target/@dev'), read(VIRT_MANAGER, '//disk/target/@dev'));
  });

  test('is described: identity, disks that are disks, why one cannot be tracked, QEMU user, agent', () => {
    assert.deepEqual(describeDomain(VIRT_MANAGER), {
      id: OLD_ID,
      name: 'web',
      owner: { uid: 64055, gid: 107 },
      agentChannel: 'connected',
      besidesDisks: [
        'its UEFI variables',
        'what its TPM holds (have at hand the recovery keys of what the guest unlocks by it)',
        'devices of this host that are passed through to it',
      ],
      disks: [
        {
          target: 'vda',
          path: '/var/lib/libvirt/images/web-snap1.qcow2',
          format: 'qcow2',
          backing: '/var/lib/libvirt/images/web.qcow2',
        },
        {
          target: 'vdb',
          path: '/dev/vg0/data',
          format: 'raw',
          unsupported: 'its format is raw, and changes can only be tracked in qcow2',
          raw: true,
        },
      ],
    });
    const { disks, owner, agentChannel } = describeDomain(MINIMAL);
    assert.equal(owner, undefined);
    assert.equal(agentChannel, 'none');
    assert.match(disks[0]!.unsupported!, /neither a file nor a block device \(type network\)/);
    assert.equal(disks[1]!.format, 'raw'); // never probed
  });

  test('a raw disk that is more than its bytes, or not to be tracked anyway, is no plain one', () => {
    const rawDisk = (inside: string, source = '') =>
      describeDomain(
        `<domain><name>v</name><devices><disk type='file'><driver type='raw'/><source file='/a'>${source}</source>${inside}<target dev='vda'/></disk></devices></domain>`,
      ).disks[0]!.raw;
    assert.equal(rawDisk(''), true);
    for (const inside of ['<shareable/>', '<readonly/>', '<transient/>', luks("usage='web'")])
      assert.equal(rawDisk(inside), undefined, inside);
    for (const source of ["<slices><slice type='storage' offset='512' size='512'/></slices>", luks("usage='web'")])
      assert.equal(rawDisk('', source), undefined, source);
  });

  const luks = (secret: string) => `<encryption format='luks'><secret type='passphrase' ${secret}/></encryption>`;
  const withDisk = (inside: string) =>
    `<domain><name>v</name><devices><disk type='file'><driver name='qemu' type='qcow2'/>${inside}<target dev='vda'/></disk></devices></domain>`;

  test('an encrypted disk is told from others, wherever the encryption stands, also in an image under it', () => {
    const source = '<source file="/images/secret.qcow2">';
    const uuid = luks(`uuid='${OLD_ID}'`);
    const encryption = (inside: string) => describeDomain(withDisk(inside)).disks[0]!.encryption;
    assert.deepEqual(encryption(`${source}${uuid}</source>`), { secret: { uuid: OLD_ID } });
    assert.deepEqual(encryption(`${source}</source>${uuid}`), { secret: { uuid: OLD_ID } });
    assert.deepEqual(encryption(`${source}${luks("usage='web'")}</source>`), { secret: { usage: 'web' } });
    const under = `<backingStore><source file='/a'/><backingStore>${source}${uuid}</source></backingStore></backingStore>`;
    assert.deepEqual(encryption(`${source}</source>${under}`), {});
    assert.equal(encryption(`${source}</source><mirror>${source}${uuid}</source></mirror>`), undefined);
  });

  test('a plain image in the place of an encrypted one has no encryption; another path alone changes nothing of it', () => {
    const inside = (where: 'source' | 'disk') => {
      const one = luks(`uuid='${OLD_ID}'`);
      return where === 'source' ? `<source file='/a'>${one}</source>` : `<source file='/a'/>${one}`;
    };
    for (const where of ['source', 'disk'] as const) {
      const plain = { path: '/b', format: 'qcow2', plain: true } as const;
      assert.doesNotMatch(rewrite(withDisk(inside(where)), { disks: new Map([['vda', plain]]) }), /encryption/);
      const kept = rewrite(withDisk(inside(where)), { disks: new Map([['vda', { path: '/b', format: 'qcow2' }]]) });
      assert.deepEqual(describeDomain(kept).disks[0]!.encryption, { secret: { uuid: OLD_ID } });
    }
  });

  test('rewritten with nothing to change keeps all that is not ours to know', () => {
    const xml = rewrite(VIRT_MANAGER);
    for (const kept of [
      "the administrator's own words",
      'libosinfo:os id="http://debian.org/debian/12"',
      '<qemu:arg value="-nodefaults"/>',
      'web_VARS.fd',
      '/isos/debian-12.iso',
      'web-snap1.qcow2',
      '/run/mine/own.sock',
      '<iotune>',
    ]) {
      assert.ok(xml.includes(kept), kept);
    }
    assert.deepEqual(read(xml, '/domain/@id'), []);
    assert.deepEqual(read(xml, "//channel[target/@name='org.qemu.guest_agent.0']/source"), []);
  });

  test('gets new disk sources; options of the disk stay, what hung on the old image goes', () => {
    const disks = new Map([
      ['vda', { path: '/replica/a <&>.qcow2', format: 'qcow2' as const }],
      ['vdb', { path: '/replica/b.qcow2', format: 'qcow2' as const }],
    ]);
    const xml = rewrite(VIRT_MANAGER, { disks });
    withXml(xml, (document) => {
      const [vda, vdb, cdrom] = elements(document, '/domain/devices/disk');
      assert.equal(element(vda!, 'source')!.toString(), '<source file="/replica/a &lt;&amp;&gt;.qcow2"/>');
      assert.equal(element(vda!, 'backingStore'), undefined);
      assert.deepEqual(
        ['type', 'cache', 'discard', 'io'].map((name) => attribute(element(vda!, 'driver'), name)),
        ['qcow2', 'none', 'unmap', 'native'],
      );
      assert.equal(element(vda!, 'serial')!.content, 'WEB-0001');
      assert.ok(element(vda!, 'address') !== undefined && element(vda!, 'boot') !== undefined);
      assert.equal(attribute(vdb, 'type'), 'file');
      assert.equal(attribute(element(vdb!, 'driver'), 'type'), 'qcow2');
      assert.equal(element(vdb!, 'source')!.toString(), '<source file="/replica/b.qcow2"/>');
      assert.equal(attribute(element(cdrom!, 'source'), 'file'), '/isos/debian-12.iso');
    });
    const network = rewrite(MINIMAL, { disks: new Map([['vda', { path: '/dev/vg0/tiny', format: 'raw' }]]) });
    assert.deepEqual(read(network, "//disk[target/@dev='vda']/@type"), ['block']);
    assert.deepEqual(read(network, "//disk[target/@dev='vda']/source/@*"), ['/dev/vg0/tiny']);
    assert.deepEqual(read(network, '//auth|//host'), []);
  });

  test('other disks go, and drives lose their medium, when asked', () => {
    const disks = new Map([['vda', { path: '/replica/a.qcow2', format: 'qcow2' as const }]]);
    const xml = rewrite(VIRT_MANAGER, { disks, otherDisks: 'remove' });
    assert.deepEqual(read(xml, '//disk/target/@dev'), ['vda', 'sda']);
    assert.deepEqual(read(xml, "//disk[@device='cdrom']/source"), []);
  });

  test('no adapter of a disconnected VM reaches the network', () => {
    const xml = rewrite(VIRT_MANAGER, { network: 'disconnected' });
    assert.deepEqual(read(xml, '//interface/@type'), ['network', 'bridge']);
    assert.deepEqual(read(xml, '//interface/link/@state'), ['down', 'down']);
    assert.deepEqual(read(xml, '//interface/mac/@address'), ['52:54:00:aa:bb:01', '52:54:00:aa:bb:02']);
  });

  test('another identity reaches the SMBIOS tables and leaves the UEFI variables of the old VM alone', () => {
    const xml = rewrite(VIRT_MANAGER, { id: NEW_ID, name: 'web - Test' });
    assert.deepEqual(read(xml, '/domain/name'), ['web - Test']);
    assert.deepEqual(read(xml, '/domain/uuid'), [NEW_ID]);
    assert.deepEqual(read(xml, "//entry[@name='uuid']"), [NEW_ID]);
    assert.deepEqual(read(xml, '//entry[@name="serial"]'), ['S1']);
    assert.deepEqual(read(xml, '//nvram'), ['']);
    assert.deepEqual(read(xml, '//nvram/@template'), ['/usr/share/OVMF/OVMF_VARS_4M.ms.fd']);
    const own = rewrite(VIRT_MANAGER.replace('web_VARS', 'shared_VARS'), { name: 'other' });
    assert.deepEqual(read(own, '//nvram'), ['/var/lib/libvirt/qemu/nvram/shared_VARS.fd']);
  });

  test('what is no domain is refused', () => {
    for (const wrong of ['<network/>', 'no xml', '']) {
      assert.throws(
        () => rewrite(wrong),
        (error) => error instanceof Failure && error.code === 'bad-request',
        wrong,
      );
    }
  });

  test('leaks no wasm memory', async () => {
    const { diag } = await import('libxml2-wasm');
    diag.configure({ enabled: true });
    rewrite(VIRT_MANAGER, { network: 'disconnected', otherDisks: 'remove', id: NEW_ID, name: 'n' });
    rewrite(MINIMAL, { disks: new Map([['no', { path: '/x', format: 'raw' }]]) });
    assert.throws(() => rewrite('<network/>'));
    describeDomain(MINIMAL);
    assert.equal(diag.report().totalInstances ?? 0, 0);
    diag.configure({ enabled: false });
  });
});
