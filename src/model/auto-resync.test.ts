import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AUTO_RESYNC_PATTERN, needOf, resyncFrom, type ResyncNeed } from './auto-resync.ts';
import type { ReplicationState } from './relationship.ts';

/** Local time, whatever the time zone of this machine is. */
const at = (day: number, hour: number, minute = 0) => new Date(2026, 10, day, hour, minute).getTime();
const from = (autoResync: string, now: number) => resyncFrom({ state: 'Replicating', autoResync }, now);

test('always begins at once, never not by itself', () => {
  const now = at(21, 12);
  assert.equal(from('always', now), now);
  assert.equal(resyncFrom({ state: 'Replicating' }, now), now, 'always unless told otherwise');
  assert.equal(from('never', now), null);
});

test('a window that passes midnight', () => {
  for (const now of [at(21, 18, 30), at(21, 23, 59), at(22, 0), at(22, 5, 59)])
    assert.equal(from('18:30-06:00', now), now);
  assert.equal(from('18:30-06:00', at(21, 6)), at(21, 18, 30), 'its end is outside');
  assert.equal(from('18:30-06:00', at(21, 18, 29)), at(21, 18, 30));
});

test('a window within a day; after it comes the next day', () => {
  assert.equal(from('01:00-05:00', at(21, 4, 59)), at(21, 4, 59));
  assert.equal(from('01:00-05:00', at(21, 0)), at(21, 1));
  assert.equal(from('01:00-05:00', at(30, 5)), new Date(2026, 11, 1, 1).getTime(), 'over the end of a month');
});

test('what a person has begun or cancelled counts before the policy, in the states of a comparison only', () => {
  const now = at(21, 12);
  const facts = (state: ReplicationState, begin: ResyncNeed['begin'], autoResync: string) => {
    return { state, autoResync, resync: { reason: 'because', begin } };
  };
  assert.equal(resyncFrom(facts('WaitingForStartResynchronize', 'at-once', 'never'), now), now);
  assert.equal(resyncFrom(facts('WaitingForStartResynchronize', 'by-hand', 'always'), now), null);
  assert.equal(resyncFrom(facts('Replicating', 'by-hand', 'always'), now), now, 'it is of an earlier comparison');
  assert.equal(needOf(facts('Replicating', 'by-hand', 'always')), undefined);
  assert.equal(resyncFrom(facts('InitialReplicationInProgress', 'by-policy', 'never'), now), now, 'an initial copy');
});

test('what is a setting, and what is none', () => {
  for (const good of ['always', 'never', '18:30-06:00', '00:00-23:59', '01:00-01:30'])
    assert.match(good, AUTO_RESYNC_PATTERN);
  for (const bad of ['', 'no', '24:00-06:00', '18:60-06:00', '6:00-7:00', '18:30', '18:30-18:30', '18:30-06:00 ']) {
    assert.doesNotMatch(bad, AUTO_RESYNC_PATTERN);
  }
});
