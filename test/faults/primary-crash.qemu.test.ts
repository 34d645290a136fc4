import assert from 'node:assert/strict';
import { test } from 'node:test';
import { IN_A_COPY, IN_A_CYCLE, IN_THINNING } from './crash-points.ts';
import { startReplication } from './primary-world.ts';
import { VM } from './vm-hosts.ts';

void test('a daemon that is killed at any step of a cycle goes on after it, without a comparison', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  for (const crash of IN_A_CYCLE) {
    await vm.hosts.a.services.primaries.stop(vm.id); // the change is the other process's to find
    await vm.vms.change('a', 8);
    await vm.crashAt(crash, { kind: 'replicate', primary: 'a' });
    await vm.vms.change('a', 2);
    await vm.replicated('a');
    await vm.checkBitmaps('a');
  }
  assert.equal(vm.count('a', 'comparing'), 0);
  await vm.checkAllPoints('b');
});

void test('a daemon that is killed in the initial copy goes on with it, without a comparison', async (t) => {
  for (const crash of IN_A_COPY) {
    await t.test(crash, async (inner) => {
      const vm = await startReplication(inner, { changes: 40, begin: false });
      await vm.crashAt(crash, { kind: 'replicate', primary: 'a' });
      await vm.vms.change('a', 5);
      await vm.replicated('a');
      assert.equal(vm.count('a', 'comparing'), 0);
    });
  }
});

void test('a daemon that is killed in a comparison begins or goes on with it, and overlooks no change', async (t) => {
  const vm = await startReplication(t, { changes: 10 });
  await vm.replicated('a');
  for (const [i, crash] of IN_A_COPY.entries()) {
    await vm.hosts.a.services.primaries.stop(vm.id);
    await vm.vms.change('a', 6); // nobody will know of it any more
    const { vmId, bitmap } = vm.record('a');
    await vm.vms.hypervisors.a.dropBitmap(vmId, bitmap!);
    await vm.crashAt(crash, { kind: 'replicate', primary: 'a' });
    await vm.replicated('a');
    await vm.checkBitmaps('a');
    assert.ok(vm.count('a', 'comparing') > i, `${crash}: nothing was compared`);
  }
  await vm.checkAllPoints('b');
});

void test('a daemon that is killed while it makes a log thinner goes on after it, without a comparison', async (t) => {
  const vm = await startReplication(t, { changes: 3 });
  await vm.replicated('a');
  const { guest, machines } = vm.vms;
  await guest.overwrite(machines.a.writableSocket(VM), 4 * MIB);
  await vm.replicated('a');
  for (const crash of IN_THINNING) {
    await vm.believeLink('a', SCARCE);
    await guest.scatter(machines.a.writableSocket(VM), [5 * PAGE, 100 * PAGE, 1000 * PAGE], PAGE);
    await vm.crashAt(crash, { kind: 'replicate', primary: 'a' });
    await vm.vms.change('a', 2);
    await vm.replicated('a');
    await vm.checkBitmaps('a');
  }
  assert.equal(vm.count('a', 'comparing'), 0);
  await vm.checkAllPoints('b');
});

const MIB = 1024 * 1024;
const PAGE = 4096;
/** Bytes per second. */
const SCARCE = 10_000;
