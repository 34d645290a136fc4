import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Failure } from './failure.ts';
import { judgeAfterStepDown, judgePeer, judgeStart } from './role.ts';
import { after, EVENTS, follow, SITUATIONS, type Situation } from './state.ts';

test('every event leads somewhere, and only to situations that exist', () => {
  const known = new Set<string>(SITUATIONS);
  for (const event of EVENTS) {
    const targets = SITUATIONS.map((from) => follow(from, event)).filter((to) => to !== undefined);
    assert.ok(targets.length > 0, `${event} leads nowhere`);
    for (const to of targets) assert.ok(known.has(to), `${event} leads to ${to}, which has no row`);
  }
});

test('from every situation there is a way back to regular replication', () => {
  const normal = new Set<Situation>(['primary/Replicating', 'replica/Replicating']);
  for (const start of SITUATIONS) {
    const seen = new Set<Situation>([start]);
    for (const from of seen) for (const event of EVENTS) seen.add(follow(from, event) ?? from);
    assert.ok(
      [...seen].some((situation) => normal.has(situation)),
      `${start} is a dead end`,
    );
  }
});

test('an event whose effect is there already changes nothing, so that a step can be repeated after a crash', () => {
  for (const event of EVENTS) {
    if (event === 'copy-begun' || event === 'compare-begun') continue; // a copy can begin again from its own state
    for (const from of SITUATIONS) {
      const to = follow(from, event);
      if (to !== undefined && follow(to, event) !== undefined)
        assert.equal(follow(to, event), to, `${event} twice from ${from}`);
    }
  }
});

test('what is not in the table is refused, by name', () => {
  assert.throws(
    () => after({ role: 'replica', state: 'Replicating' }, 'prepared'),
    (error) => error instanceof Failure && error.code === 'wrong-state' && error.message.includes('prepared'),
  );
  assert.deepEqual(after({ role: 'replica', state: 'RecoveryInProgress' }, 'failed-over'), {
    role: 'primary',
    state: 'FailedOverWaitingCompletion',
  });
});

test('a primary yields to a higher epoch only, and takes it over when the peer gave the role back', () => {
  const own = { role: 'primary', epoch: 3, state: 'Replicating' } as const;
  const taking = { role: 'replica', epoch: 4, state: 'RecoveryInProgress' } as const;
  assert.equal(judgePeer(own, { role: 'primary', epoch: 4, state: 'Replicating' }), 'lost');
  assert.equal(judgePeer(own, { role: 'primary', epoch: 3, state: 'Replicating' }), 'wait');
  assert.equal(judgePeer(own, { role: 'primary', epoch: 2, state: 'Replicating' }), 'wait');
  assert.equal(judgePeer(own, { role: 'replica', epoch: 4, state: 'Replicating' }), 'adopt');
  assert.equal(judgePeer(own, { role: 'replica', epoch: 3, state: 'Replicating' }), 'kept');
  assert.equal(judgePeer(own, taking), 'wait', 'it may end as the primary of that epoch');
  assert.equal(judgeAfterStepDown(own, taking), 'stay');
  assert.equal(judgeAfterStepDown(own, { role: 'primary', epoch: 4, state: 'Replicating' }), 'stay');
  assert.equal(judgeAfterStepDown(own, { role: 'replica', epoch: 4, state: 'Replicating' }), 'regain');
});

test('after a restart of its host a VM starts when the peer says so, or by policy when it is silent', () => {
  const own = { role: 'primary', epoch: 1, state: 'Replicating' } as const;
  const patient = { waitedMs: 0, patienceMs: 1000 };
  const tired = { waitedMs: 1000, patienceMs: 1000 };
  const ask = (peer: Parameters<typeof judgeStart>[1], policy: 'when-known' | 'never-alone', time: typeof patient) =>
    judgeStart(own, peer, { policy, ...time });
  assert.equal(ask({ role: 'replica', epoch: 1, state: 'Replicating' }, 'never-alone', patient), 'start');
  assert.equal(ask({ role: 'primary', epoch: 2, state: 'Replicating' }, 'when-known', tired), 'step-down');
  assert.equal(ask({ role: 'replica', epoch: 2, state: 'RecoveryInProgress' }, 'when-known', tired), 'wait');
  assert.equal(ask(undefined, 'when-known', patient), 'wait');
  assert.equal(ask(undefined, 'when-known', tired), 'start-unknowing');
  assert.equal(ask(undefined, 'never-alone', tired), 'wait');
  const prepared = { ...own, state: 'PreparedForFailover' } as const;
  assert.equal(judgeStart(prepared, undefined, { policy: 'when-known', ...tired }), 'not-ours');
});
