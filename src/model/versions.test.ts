import assert from 'node:assert/strict';
import { test } from 'node:test';
import { tooOld, tracksRawDisks, untried } from './versions.ts';

test('what the tests run on is neither too old nor untried', () => {
  for (const versions of [
    { libvirt: '9.0.0', QEMU: '7.2.22' },
    { libvirt: '11.3.0', QEMU: '10.0.2' },
  ]) {
    assert.equal(tooOld(versions), undefined);
    assert.equal(untried(versions), undefined);
  }
});

test('what is too old, or untried, is named', () => {
  assert.equal(
    tooOld({ libvirt: '8.10.0', QEMU: '7.2.0' }),
    'libvirt 8.10.0 is older than 9.0, the oldest that is supported',
  );
  assert.match(tooOld({ libvirt: '8.0.0', QEMU: '6.2.0' })!, /libvirt 8\.0\.0 .*; QEMU 6\.2\.0 /);
  assert.equal(
    untried({ libvirt: '11.10.0' }),
    'libvirt 11.10.0 is newer than 11.3, the newest that understudy was tried with',
  );
  assert.match(untried({ QEMU: '10.1.0' })!, /QEMU 10\.1\.0/);
});

test('of a program that nobody knows nothing is said', () => {
  assert.equal(tooOld({ 'qemu-storage-daemon': '0.1' }), undefined);
});

test('raw disks are tracked from libvirt 10.10 on, and without it', () => {
  for (const libvirt of ['10.10.0', '11.3.0', '12.0.0']) assert.equal(tracksRawDisks({ libvirt }), true, libvirt);
  for (const libvirt of ['9.0.0', '10.9.0']) assert.equal(tracksRawDisks({ libvirt }), false, libvirt);
  assert.equal(tracksRawDisks({ 'qemu-storage-daemon': '7.2' }), true);
});
