/** Counters that a crash must not lose: what was acknowledged was counted. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startReplication } from './primary-world.ts';

void test('each log that the replica has is counted once, whenever the daemon dies', async (t) => {
  const vm = await startReplication(t);
  for (const crash of ['cycle:acknowledged', 'acknowledged:stored', 'acknowledged:dropped']) {
    await vm.replicated('a');
    const before = vm.record('a');
    await vm.vms.change('a', 4);
    await vm.crashAt(crash, { kind: 'replicate', primary: 'a' });
    await vm.replicated('a');
    const { statistics, position } = vm.record('a');
    const logs = position.sequence - before.position.sequence;
    assert.equal(statistics.cycles - before.statistics.cycles, logs, crash);
    assert.ok(statistics.changedBytes > before.statistics.changedBytes, crash);
  }
});
