import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import {
  GUARD_AFTER_MS,
  GUARD_PAUSE_MS,
  heldUntil,
  isGranted,
  LEASE_SECONDS,
  LOOK_EVERY_MS,
  needsLease,
  surelyOver,
} from './lease.ts';
import { SITUATIONS } from './state.ts';
import type { ReplicationState, Role } from './relationship.ts';

test('a VM stands still before its lease counts as over, however the two clocks drift apart', () => {
  const ms = fc.integer({ min: 0, max: 60_000 });
  fc.assert(
    fc.property(
      fc.integer({ min: LEASE_SECONDS.min, max: LEASE_SECONDS.max }),
      ms,
      ms,
      fc.double({ min: 0.995, max: 1.005, noNaN: true }),
      fc.double({ min: 0.995, max: 1.005, noNaN: true }),
      (seconds, sentAt, onTheWay, primary, replica) => {
        // In real time; each clock goes by its own pace.
        const end = (heldUntil({ sentAt: sentAt * primary, seconds }, seconds) - sentAt * primary) / primary;
        const grantedAt = sentAt + onTheWay;
        const over = grantedAt + (surelyOver(grantedAt * replica, seconds) - grantedAt * replica) / replica;
        const still = sentAt + end + GUARD_AFTER_MS + GUARD_PAUSE_MS + LOOK_EVERY_MS;
        assert.ok(over >= still, `over ${over}, still ${still}`);
      },
    ),
  );
});

test('whoever shortens a lease is bound by that at once, whoever lengthens it by what was granted', () => {
  assert.equal(heldUntil({ sentAt: 1000, seconds: 60 }, 20), 21_000);
  assert.equal(heldUntil({ sentAt: 1000, seconds: 20 }, 60), 21_000);
});

test('a lease is needed wherever a replica could take over', () => {
  const needed = SITUATIONS.filter((situation) => {
    const [role, state] = situation.split('/') as [Role, ReplicationState];
    assert.equal(needsLease({ role, state, epoch: 1 }), false, 'none is set');
    return needsLease({ role, state, epoch: 1, leaseSeconds: 60 });
  });
  assert.deepEqual(needed, [
    'primary/ReadyForInitialReplication',
    'primary/InitialReplicationInProgress',
    'primary/Replicating',
    'primary/CatchingUp',
    'primary/WaitingForStartResynchronize',
    'primary/Resynchronizing',
  ]);
});

test('a replica grants a lease unless it is failing over, a primary only where its role is over', () => {
  const own = { role: 'primary', state: 'Replicating', epoch: 2 } as const;
  const grants = (role: Role, state: ReplicationState, epoch: number, leaseSeconds: number | undefined = 60) =>
    isGranted(own, { role, state, epoch, ...(leaseSeconds === undefined ? {} : { leaseSeconds }) }, 60);
  assert.equal(grants('replica', 'Replicating', 2), true);
  assert.equal(grants('replica', 'Replicating', 3), true, 'a failover there was cancelled');
  assert.equal(grants('replica', 'RecoveryInProgress', 3), false);
  assert.equal(grants('primary', 'SteppedDown', 1), true);
  assert.equal(grants('primary', 'FailedOverWaitingCompletion', 3), false);
  assert.equal(grants('replica', 'Replicating', 2, 20), false, 'it has noted another one');
  assert.equal(isGranted(own, { role: 'replica', state: 'Replicating', epoch: 2 }, 60), false, 'an older version');
});
