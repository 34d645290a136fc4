/** A replica that refuses logs as damaged, not because of the way there: they are made anew, by a comparison if need be. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { ReplicaEndpoint } from '../../src/protocol/endpoint.ts';
import { startReplication } from './primary-world.ts';
import type { ReplicatedVm } from './replicated-vm.ts';

/** Refuses so many tries to send a log; each log is tried a few times. */
function refuse(vm: ReplicatedVm, tries: number): () => number {
  let left = tries;
  vm.hosts.a.link.chooser = (call: keyof ReplicaEndpoint) =>
    call === 'put' && left > 0 && left-- > 0 ? { call, when: 'before', code: 'bad-log' } : undefined;
  return () => left;
}

/** The loop doesn't wait for its next try. */
async function hurried(vm: ReplicatedVm, what: string, condition: () => boolean): Promise<void> {
  await vm.wait(what, () => {
    vm.host('a').services.primaries.loop(vm.id).wake();
    return condition();
  });
}

void test('logs that are refused again although they were captured anew: both sides are compared, once', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  await vm.vms.change('a', 5);
  const left = refuse(vm, 8);
  await hurried(vm, 'all refused', () => left() === 0);
  await vm.replicated('a');
  assert.equal(vm.count('a', 'logs-refused'), 1);
  assert.equal(vm.count('a', 'comparing'), 1);
  assert.equal(vm.record('a').failure, null);
  await vm.checkAllPoints('b');
  await vm.checkBitmaps('a');
});

void test('what not even a comparison heals is a failure with its cure, and over as soon as logs are taken', async (t) => {
  const vm = await startReplication(t);
  await vm.replicated('a');
  await vm.vms.change('a', 5);
  refuse(vm, Number.POSITIVE_INFINITY);
  await hurried(vm, 'a lasting failure', () => vm.record('a').failure?.code === 'log-refused');
  const { failure, health } = await vm.hosts.a.ask('replicationShow', { ref: vm.id });
  assert.match(failure!.message, /^b refuses every log of guest as damaged/);
  assert.match(failure!.hint, /memory/);
  assert.equal(health, 'critical');
  assert.equal(vm.count('a', 'comparing'), 1);
  vm.hosts.a.link.chooser = () => undefined;
  await vm.replicated('a');
  assert.equal(vm.record('a').failure, null);
  await vm.checkAllPoints('b');
});
