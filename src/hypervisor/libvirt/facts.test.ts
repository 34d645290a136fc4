import assert from 'node:assert/strict';
import { test } from 'node:test';
import { definitionChanges } from '../../model/definition-changes.ts';
import { factsOf } from './facts.ts';

const XML = `<domain type='kvm' id='3'><name>web</name><uuid>4dea22b3-1d52-d8f3-2516-782e98ab3fa0</uuid>
  <memory unit='KiB'>524288</memory><vcpu>2</vcpu><!-- words -->
  <sysinfo type='smbios'><system><entry name='serial'>S1</entry><entry name='uuid'>4dea22b3</entry></system></sysinfo>
  <devices>
    <disk type='file' device='disk'><driver name='qemu' type='qcow2' cache='none'/><source file='/a.qcow2'/><target dev='vda' bus='virtio'/></disk>
    <interface type='network'><mac address='52:54:00:AA:bb:01'/><source network='default'/></interface>
    <interface type='bridge'><mac address='52:54:00:aa:bb:02'/><source bridge='br0'/></interface>
    <input type='tablet'/><input type='mouse'/><memballoon model='none'/>
  </devices></domain>`;

const changed = (after: string) => definitionChanges(factsOf(XML), factsOf(after));

void test('what a definition says is found by its place', () => {
  const facts = factsOf(XML);
  assert.equal(facts['memory'], '524288');
  assert.equal(facts['devices/interface[52:54:00:aa:bb:01]/source@network'], 'default');
  assert.equal(facts['devices/disk[vda]/driver@cache'], 'none');
  assert.equal(facts['devices/input[2]@type'], 'mouse');
  assert.equal(facts['sysinfo/system/entry[serial]'], 'S1');
});

void test('name, id, white space, words of others and the place of an image make no difference', () => {
  const other = XML.replace('>web<', '>shop<')
    .replaceAll('4dea22b3', '5dea22b3')
    .replace("file='/a.qcow2'", "dev='/dev/vg/a'")
    .replace("type='qcow2' cache", "type='raw' cache")
    .replace("type='file' device", "type='block' device")
    .replace('<!-- words -->', '\n\n')
    .replace(" id='3'", '');
  assert.notEqual(other, XML);
  assert.deepEqual(changed(other), []);
});

void test('what is changed, new and gone is told; adapters are told apart by their addresses', () => {
  const first = XML.slice(XML.indexOf('<interface'), XML.indexOf('<interface', XML.indexOf('<interface') + 1));
  const after = XML.replace('524288', '1048576').replace(first, '').replace("model='none'", "model='virtio'");
  assert.deepEqual(
    changed(after).map(({ what, before, after: now }) => [what, before, now]),
    [
      ['memory', '524288', '1048576'],
      ['devices/interface[52:54:00:aa:bb:01]@type', 'network', null],
      ['devices/memballoon@model', 'none', 'virtio'],
      ['devices/interface[52:54:00:aa:bb:01]/mac@address', '52:54:00:AA:bb:01', null],
      ['devices/interface[52:54:00:aa:bb:01]/source@network', 'default', null],
    ],
  );
});
