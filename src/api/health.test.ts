import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Failure, type FailureCode } from '../model/failure.ts';
import { judgeHealth, type HealthFacts } from './health.ts';

const healthy: HealthFacts = {
  role: 'primary',
  state: 'Replicating',
  suspended: false,
  failure: null,
  intervalSeconds: 5,
  lagMs: 4000,
  cycles: 100,
  missedCycles: 0,
};
const judge = (change: Partial<HealthFacts>) => judgeHealth({ ...healthy, ...change });
const failure = (code: FailureCode) => new Failure(code, `it is ${code}`).toJSON();

void test('clocks that are apart are a warning', () => {
  assert.equal(judge({ skewMs: 4000 }).health, 'normal');
  assert.equal(judge({ skewMs: null }).health, 'normal');
  assert.deepEqual(judge({ skewMs: -3_600_000 }).reasons, ['the clocks of both hosts are 3600 s apart']);
});

void test('a disk that nobody has decided about is a warning', () => {
  assert.deepEqual(judge({ unprotected: [] }).health, 'normal');
  const { health, reasons } = judge({ unprotected: ['vdc'] });
  assert.deepEqual({ health, reasons }, { health: 'warning', reasons: ['disk vdc was added and is not replicated'] });
});

void test('why both sides have to be compared is said', () => {
  const waiting = judge({ state: 'WaitingForStartResynchronize', resyncReason: 'vda has lost its bitmap' });
  assert.equal(waiting.health, 'critical');
  assert.match(waiting.reasons[0]!, /have to be compared before replication goes on: vda has lost its bitmap$/);
  const running = judge({ state: 'Resynchronizing', resyncReason: 'it was restored' });
  assert.equal(running.health, 'warning');
  assert.match(running.reasons[0]!, /it was restored$/);
});

void test('nothing wrong is normal, without reasons', () => {
  assert.deepEqual(judge({}), { health: 'normal', reasons: [] });
  assert.equal(judge({ lagMs: null }).health, 'normal');
});

void test('lag counts in intervals, with room for short ones', () => {
  assert.equal(judge({ lagMs: 29_000 }).health, 'normal');
  assert.equal(judge({ lagMs: 31_000 }).health, 'warning');
  assert.equal(judge({ lagMs: 31_000, intervalSeconds: 300 }).health, 'normal');
  assert.equal(judge({ lagMs: 901_000, intervalSeconds: 300 }).health, 'warning');
  assert.equal(judge({ lagMs: 3_601_000 }).health, 'critical');
  assert.equal(judge({ lagMs: 3_601_000, intervalSeconds: 3600 }).health, 'normal');
});

void test('more than a fifth of the cycles missed is a warning', () => {
  assert.equal(judge({ cycles: 80, missedCycles: 20 }).health, 'normal');
  assert.equal(judge({ cycles: 79, missedCycles: 21 }).health, 'warning');
  assert.equal(judge({ cycles: 1, missedCycles: 3 }).health, 'normal', 'too few to say so');
});

void test('a failure that somebody has to cure is critical, one that heals is a warning', () => {
  assert.deepEqual(judge({ failure: failure('unreachable') }), { health: 'warning', reasons: ['it is unreachable'] });
  assert.equal(judge({ failure: failure('no-space') }).health, 'warning');
  assert.equal(judge({ failure: failure('peer-refused') }).health, 'critical');
});

void test('paused is a warning on the primary and critical on the replica', () => {
  assert.equal(judge({ suspended: true }).health, 'warning');
  assert.equal(judge({ suspended: true, role: 'replica' }).health, 'critical');
  assert.equal(judge({ failure: failure('suspended') }).health, 'critical', 'paused by the Replica server');
});

void test('reasons of the worst level come first', () => {
  const { health, reasons } = judge({ state: 'Error', suspended: true, lagMs: 60_000 });
  assert.equal(health, 'critical');
  assert.equal(reasons.length, 3);
  assert.match(reasons[0]!, /has stopped/);
});
