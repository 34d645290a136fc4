import assert from 'node:assert/strict';
import { test } from 'node:test';
import { sleep, until } from '../lib/clock.ts';
import { silentLog } from '../lib/log.ts';
import { Failure } from '../model/failure.ts';
import type { ReplicaStatus } from '../protocol/endpoint.ts';
import type { RelationshipRecord } from '../store/store.ts';
import { Contact } from './contact.ts';

const POSITION = { epoch: 1, sequence: 1, state: '0'.repeat(32) };
const record = (change: Partial<RelationshipRecord> = {}) =>
  ({ id: 'r', peer: 'b', role: 'primary', state: 'Replicating', epoch: 1, ...change }) as RelationshipRecord;
const status = (change: Partial<ReplicaStatus> = {}): ReplicaStatus => ({
  id: 'r',
  role: 'replica',
  state: 'Replicating',
  epoch: 1,
  received: POSITION,
  applied: POSITION,
  vmRunning: false,
  ...change,
});
const TAKEN_OVER = status({ role: 'primary', state: 'FailedOverWaitingCompletion', epoch: 2 });

/** Runs rounds of contact until `rounds` questions were asked; gives whose role was lost. */
async function contact(
  own: RelationshipRecord,
  answers: (() => Promise<ReplicaStatus>)[],
  options: { inAction?: boolean; rounds?: number } = {},
): Promise<{ lost: string[]; roomy: string[]; asked: number }> {
  const { rounds = answers.length, inAction = false } = options;
  const lost: string[] = [];
  const roomy: string[] = [];
  let asked = 0;
  const tested = new Contact({
    store: { relationships: () => [own], relationship: () => own },
    peer: () => ({ status: () => answers[Math.min(asked++, answers.length - 1)]!() }),
    inAction: () => inAction,
    onRoleLost: (id) => lost.push(id),
    onRoom: (id) => roomy.push(id),
    log: silentLog(),
    everyMs: 5,
    patienceMs: 50,
  });
  tested.begin();
  if (rounds > 0) await until(() => asked >= rounds, { timeoutMs: 5000, onTimeout: () => new Error('nobody asks') });
  else await sleep(50);
  await tested.close();
  return { lost, roomy, asked };
}

test('a peer that took over is heard, whatever replication waits for', async () => {
  for (const own of [record(), record({ suspended: true }), record({ state: 'Resynchronizing' })]) {
    const { lost } = await contact(own, [async () => status(), async () => TAKEN_OVER, async () => TAKEN_OVER]);
    assert.equal(lost[0], 'r');
  }
});

test('a replica that lacked room and has some again is heard', async () => {
  const waits = record({ failure: new Failure('no-space', 'full').toJSON() });
  const lacking = await contact(waits, [async () => status(), async () => ({ ...status(), missingBytes: 1 })]);
  assert.deepEqual(lacking.roomy, []);
  const roomy = async () => ({ ...status(), missingBytes: 0 });
  assert.equal((await contact(waits, [roomy, roomy])).roomy[0], 'r');
  assert.deepEqual((await contact(record(), [roomy, roomy])).roomy, []);
});

test('a question that is never answered does not keep the next one from being asked', async () => {
  const never = () => new Promise<ReplicaStatus>(() => undefined);
  const fails = () => Promise.reject(new Failure('unreachable', 'gone'));
  const { lost } = await contact(record(), [never, fails, async () => TAKEN_OVER, async () => TAKEN_OVER]);
  assert.equal(lost[0], 'r');
});

test('a replica, a cancelled failover, a lower epoch, silence: nothing is lost', async () => {
  const answers = [status(), status({ epoch: 2 }), status({ role: 'primary', epoch: 1 })];
  const { lost } = await contact(record(), [...answers.map((answer) => async () => answer), async () => status()]);
  assert.deepEqual(lost, []);
});

test('nobody is asked about a replica, or in an action', async () => {
  assert.equal((await contact(record({ role: 'replica' }), [async () => TAKEN_OVER], { rounds: 0 })).asked, 0);
  assert.equal((await contact(record(), [async () => TAKEN_OVER], { inAction: true, rounds: 0 })).asked, 0);
});

test('the return of what a plan has stepped down is waited for by whoever watches roles', async () => {
  const { lost, asked } = await contact(record({ state: 'SteppedDown' }), [async () => TAKEN_OVER], { rounds: 0 });
  assert.equal(lost[0], 'r');
  assert.equal(asked, 0);
});
