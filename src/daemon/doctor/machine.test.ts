import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Failure } from '../../model/failure.ts';
import type { Finding } from './finding.ts';
import { judgeMachine, type MachineFacts } from './machine.ts';

const GOOD: MachineFacts = {
  cpu: 'vmx',
  kvm: 'usable',
  vmUser: 'libvirt-qemu (uid 64055)',
  versions: { libvirt: '9.0.0', QEMU: '7.2.22' },
  pointDirectory: '/var/lib/libvirt/understudy',
};

/** The one finding about a subject. */
function about(subject: string, change: Partial<MachineFacts>): Finding {
  const found = judgeMachine({ ...GOOD, ...change }).filter((finding) => finding.subject === subject);
  assert.equal(found.length, 1, subject);
  return found[0]!;
}

test('a good host: nothing has to be done', () => {
  const findings = judgeMachine(GOOD);
  assert.deepEqual(
    findings.map(({ subject, severity, cure }) => [subject, severity, cure]),
    [
      ['hypervisor', 'ok', null],
      ['KVM', 'ok', null],
      ['AppArmor', 'ok', null],
    ],
  );
});

test('versions: too old, newer than was tried, not said', () => {
  const old = about('hypervisor', { versions: { libvirt: '8.9.0', QEMU: '7.2.0' } });
  assert.equal(old.severity, 'critical');
  assert.match(old.found, /^libvirt 8\.9\.0 is older than 9\.0/);
  assert.equal(about('hypervisor', { versions: { libvirt: '99.0.0', QEMU: '7.2.0' } }).severity, 'warning');
  const silent = about('hypervisor', { versions: new Failure('libvirt-down', 'no answer').toJSON() });
  assert.deepEqual([silent.severity, silent.found], ['critical', 'no answer']);
  assert.match(silent.cure!, /Start libvirtd/);
});

test('KVM: each way of not having it has its own cure', () => {
  const cures = [
    about('KVM', { kvm: 'absent', cpu: 'vmx' }),
    about('KVM', { kvm: 'absent', cpu: 'svm' }),
    about('KVM', { kvm: 'absent', cpu: 'none' }),
    about('KVM', { kvm: 'barred' }),
  ].map(({ severity, cure }) => `${severity}: ${cure}`);
  for (const [at, words] of [
    /modprobe kvm_intel/,
    /modprobe kvm_amd/,
    /firmware.*nested/,
    /usermod -aG kvm/,
  ].entries()) {
    assert.match(cures[at]!, words);
    assert.match(cures[at]!, /^warning: /, 'VMs without KVM are replicated all the same');
  }
});

test('AppArmor and SELinux: a warning while nothing lets QEMU have its sockets', () => {
  assert.equal(about('AppArmor', { appArmor: { namesPoints: true } }).severity, 'ok');
  const { severity, cure } = about('AppArmor', { appArmor: { namesPoints: false } });
  assert.equal(severity, 'warning');
  assert.match(cure!, /packaging\/apparmor\/libvirt-qemu/);
  const label = (type: string) => ({ seLinux: { label: `system_u:object_r:${type}:s0` } });
  assert.equal(about('SELinux', label('qemu_var_run_t')).severity, 'ok');
  assert.match(
    about('SELinux', label('virt_var_lib_t')).found,
    /enforcing, .* labelled system_u:object_r:virt_var_lib_t/,
  );
  assert.equal(about('SELinux', label('virt_var_lib_t')).severity, 'warning');
});
