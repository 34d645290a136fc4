/** A guest that a full scratch has paused, although its job is given up before: it goes on as soon as the job can be ended. */
import assert from 'node:assert/strict';
import { test, type TestContext } from 'node:test';
import { Failure } from '../../src/model/failure.ts';
import type { OpenPointRequest } from '../../src/hypervisor/hypervisor.ts';
import { startReplication } from './primary-world.ts';
import type { ReplicatedVm } from './replicated-vm.ts';
import { VM } from './vm-hosts.ts';

/**
 * In the next job QEMU pauses the guest, as after a write that failed; and libvirtd is away when the job is to be ended, so many times.
 */
function pauseInNextJob(t: TestContext, vm: ReplicatedVm, away: number): void {
  const { a } = vm.vms.hypervisors;
  const machine = vm.vms.machines.a;
  const real = { open: a.openPoint.bind(a), close: a.closePoint.bind(a), status: a.vmStatus.bind(a) };
  let [pauses, left] = [1, 0];
  t.mock.method(a, 'openPoint', async (request: OpenPointRequest) => {
    const point = await real.open(request);
    if (pauses-- > 0) {
      machine.runningVm(VM).paused = true;
      left = away;
    }
    return point;
  });
  t.mock.method(a, 'closePoint', async (id: string) => {
    if (left-- > 0) throw new Failure('libvirt-down', 'libvirtd does not answer');
    await real.close(id);
  });
  t.mock.method(a, 'vmStatus', async (id: string) => {
    const status = await real.status(id);
    return { ...status, pausedByIoError: status.state === 'paused' };
  });
}

async function rescued(vm: ReplicatedVm): Promise<void> {
  await vm.wait('the guest is resumed', () => vm.count('a', 'guest-paused') > 0);
  await vm.wait('it runs', async () => (await vm.vms.hypervisors.a.vmStatus(VM)).state === 'running');
  assert.equal(vm.events('a').find(({ kind }) => kind === 'guest-paused')!.severity, 'critical');
  await vm.replicated('a');
}

void test('when libvirtd did not answer at the end of the job, it goes on when it does', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  await vm.vms.change('a', 5);
  pauseInNextJob(t, vm, 3);
  vm.hosts.a.services.primaries.loop(vm.id).wake();
  await rescued(vm);
});

void test('when the daemon died in the middle of the job, it goes on with the next one', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  await vm.hosts.a.services.primaries.stop(vm.id);
  await vm.vms.change('a', 5);
  pauseInNextJob(t, vm, 0);
  await vm.crashAt('cycle:opened', { kind: 'replicate', primary: 'a' });
  await rescued(vm);
});

void test('a guest that somebody else has paused stays paused', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  await vm.vms.hypervisors.a.suspend(VM);
  await vm.replicated('a');
  assert.equal((await vm.vms.hypervisors.a.vmStatus(VM)).state, 'paused');
  assert.equal(vm.count('a', 'guest-paused'), 0);
});
