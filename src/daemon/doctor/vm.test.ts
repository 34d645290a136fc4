import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { Vm, VmInspection } from '../../hypervisor/hypervisor.ts';
import { Failure } from '../../model/failure.ts';
import type { Versions } from '../../model/versions.ts';
import { judgeVm, type VmFacts } from './vm.ts';

const disk = (target: string, unsupported?: string): Vm['disks'][number] => ({
  target,
  path: `/vm/${target}.qcow2`,
  format: 'qcow2',
  size: 2 ** 30,
  ...(unsupported === undefined ? {} : { unsupported }),
});
const VM: Vm = {
  id: '6f1c1f0e-31a5-4c2f-9e5e-0d8f6a3f3c01',
  name: 'web',
  state: 'running',
  pausedByIoError: false,
  autostart: false,
  disks: [disk('vda'), disk('vdb')],
  besidesDisks: [],
};
const NOBODY: VmInspection = { foreignCheckpoints: [], foreignBitmaps: [] };

function judged(vm: Partial<Vm>, more: Partial<VmFacts> = {}) {
  const findings = judgeVm({ vm: { ...VM, ...vm }, inspection: NOBODY, ...more });
  return findings.map(({ severity, subject, found }) => `${severity}: ${subject}: ${found}`);
}

function cures(vm: Partial<Vm>, versions: Versions): string {
  return judgeVm({ vm: { ...VM, ...vm }, inspection: NOBODY, versions })
    .map(({ cure }) => cure)
    .join('\n');
}

test('a VM that can be replicated', () => {
  const good = [
    'ok: VM web: disks: vda, vdb can be tracked',
    'ok: VM web: other programs: none has checkpoints or bitmaps in it',
  ];
  assert.deepEqual(judged({}), good);
  assert.deepEqual(judged({}, { replicated: { disks: ['vda'], leftOut: ['vdb'] } }), good);
});

test('disks that can’t be tracked, are gone, or new', () => {
  const raw = { disks: [disk('vda'), disk('vdb', 'its format is raw')] };
  assert.match(judged(raw)[0]!, /^critical: VM web: disks: changes of vdb can't be tracked: its format is raw$/);
  assert.match(judged(raw, { replicated: { disks: ['vda'], leftOut: ['vdb'] } })[0]!, /^ok/, 'it was left out');
  const plain = { disks: [{ ...disk('vda', 'its format is raw'), raw: true as const }] };
  assert.match(cures(plain, { libvirt: '11.3.0' }), /`understudy vm track web --disk vda`/);
  assert.match(
    cures(plain, { libvirt: '9.0.0' }),
    /from libvirt 10\.10 on \(here it is 9\.0\.0\).*virsh blockcopy web vda/,
  );
  assert.match(
    judged({}, { replicated: { disks: ['vda', 'vdc'], leftOut: ['vdb'] } })[0]!,
    /^critical: .* vdc is replicated, and was taken out/,
  );
  assert.match(judged({}, { replicated: { disks: ['vda'], leftOut: [] } })[0]!, /^warning: .* vdb was added/);
  assert.match(judged({ disks: [] })[0]!, /^critical: .* it has none/);
});

test('what doesn’t travel, and what others left', () => {
  assert.match(
    judged({ besidesDisks: ['what its TPM holds'] })[1]!,
    /^warning: VM web: besides disks: what its TPM holds/,
  );
  const inspection = { foreignCheckpoints: ['virtnbdbackup.0'], foreignBitmaps: ['vda: backup'] };
  assert.equal(
    judged({}, { inspection })[1],
    'warning: VM web: other programs: not ours: checkpoints virtnbdbackup.0; bitmaps vda: backup',
  );
  assert.match(
    judged({}, { inspection: new Failure('io', 'no such image').toJSON() })[1]!,
    /^warning: .* no such image$/,
  );
});

test('the guest agent, of a VM that runs', () => {
  const agent = (channel: 'none' | 'silent' | 'connected') =>
    judged({}, { inspection: { ...NOBODY, agent: channel } })[1]!;
  assert.match(agent('connected'), /^ok: VM web: guest agent: it answers$/);
  assert.match(agent('none'), /^ok: VM web: guest agent: .* power button$/);
  assert.match(agent('silent'), /^warning: VM web: guest agent: .* nobody answers/);
});

test('an encrypted disk, before and after somebody has said what is to become of it', () => {
  const encrypted = { disks: [{ ...disk('vda'), encrypted: true as const }, disk('vdb')] };
  const about = (replicated?: VmFacts['replicated']) =>
    judged(encrypted, replicated === undefined ? {} : { replicated }).filter((found) => found.includes('encrypt'));
  assert.match(about().join(), /^warning: VM web: encryption: vda is encrypted, and its replica would be plain text/);
  const disks = ['vda', 'vdb'];
  assert.match(about({ disks, leftOut: [] }).join(), /^critical: .* would be plain text/);
  assert.match(about({ disks, leftOut: [], plaintext: true }).join(), /^warning: .* is plain text, as allowed$/);
  assert.deepEqual(about({ disks: ['vdb'], leftOut: ['vda'] }), []);
});
