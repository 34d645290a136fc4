import assert from 'node:assert/strict';
import { test } from 'node:test';
import { refusedBy, wantsOf } from './lacking.ts';

const XML = `<domain type='kvm'><os firmware='efi'><type arch='x86_64' machine='pc-q35-9.0'>hvm</type><loader>/fw/code.fd</loader>
  <nvram template='/fw/vars.fd'>/var/lib/web_VARS.fd</nvram></os><cpu mode='custom'><model>EPYC</model></cpu>
  <devices><emulator>/usr/bin/qemu</emulator><interface type='network'><source network='dmz'/></interface>
  <interface type='bridge'><source bridge='br7'/></interface><interface type='direct'><source dev='eth3'/></interface>
  <interface type='user'/><tpm><backend type='emulator'><encryption secret='5f0c'/></backend></tpm>
  <disk><source file='/a'><encryption format='luks'><secret type='passphrase' uuid='6a3b'/></encryption></source></disk></devices></domain>`;

const CAPABILITIES = `<domainCapabilities><os><enum name='firmware'><value>bios</value></enum></os>
  <cpu><mode name='host-passthrough' supported='no'/><mode name='host-model' supported='yes'/>
  <mode name='custom' supported='yes'><model usable='yes'>qemu64</model><model usable='no'>EPYC</model></mode></cpu></domainCapabilities>`;

const wanting = (cpu: string) => wantsOf(XML.replace(/<cpu.*<\/cpu>/, cpu).replace(" firmware='efi'", ''));

void test('what a definition wants of its host is read from it', () => {
  assert.deepEqual(wantsOf(XML), {
    emulator: '/usr/bin/qemu',
    arch: 'x86_64',
    machine: 'pc-q35-9.0',
    virtType: 'kvm',
    cpuMode: 'custom',
    cpuModel: 'EPYC',
    firmware: 'efi',
    files: ['/fw/code.fd', '/fw/vars.fd'],
    networks: ['dmz'],
    links: ['br7', 'eth3'],
    secrets: ['5f0c', '6a3b'],
  });
});

void test('CPU and firmware that the hypervisor does not offer are named', () => {
  assert.deepEqual(refusedBy(CAPABILITIES, wantsOf(XML)), ['CPU model EPYC', 'efi firmware']);
  assert.deepEqual(refusedBy(CAPABILITIES, wanting('<cpu><model>Nonsense</model></cpu>')), ['CPU model Nonsense']);
  assert.deepEqual(refusedBy(CAPABILITIES, wanting("<cpu mode='host-passthrough'></cpu>")), [
    'CPU mode host-passthrough',
  ]);
});

void test('what it offers, or is not asked for, is not', () => {
  for (const cpu of ['', '<cpu><model>qemu64</model></cpu>', "<cpu mode='host-model'></cpu>"]) {
    assert.deepEqual(refusedBy(CAPABILITIES, wanting(cpu)), [], cpu);
  }
});
