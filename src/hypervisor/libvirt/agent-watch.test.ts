import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AGENT_PATIENCE_MS, AgentWatch, type AgentChannel } from './agent-watch.ts';

const S = 1000;

/** Looks at a VM whose QEMU `life` began at `start`. */
function looking(watch: AgentWatch) {
  return (life: number, start: number, now: number, channel: AgentChannel) =>
    watch.look({ life, channel, ageMs: now - start, now });
}

void test('no job is opened in the first minute of a VM until its agent is here', () => {
  const look = looking(new AgentWatch());
  assert.equal(look(1, 0, 1 * S, 'silent'), 'coming');
  assert.equal(look(1, 0, 30 * S, 'silent'), 'coming');
  assert.equal(look(1, 0, 31 * S, 'connected'), 'connected');
  assert.equal(look(1, 0, 500 * S, 'connected'), 'connected');
});

void test('a VM without a channel, or without an agent, is waited for at most a minute', () => {
  assert.equal(looking(new AgentWatch())(1, 0, 0, 'none'), 'none');
  const look = looking(new AgentWatch());
  assert.equal(look(1, 0, AGENT_PATIENCE_MS - 1, 'silent'), 'coming');
  assert.equal(look(1, 0, AGENT_PATIENCE_MS, 'silent'), 'none');
});

void test('one that has run for long when it is first seen is not waited for', () => {
  assert.equal(looking(new AgentWatch())(7, 0, 3600 * S, 'silent'), 'none');
});

void test('a reboot of the guest: the agent is waited for anew, and lost when it stays away', () => {
  const look = looking(new AgentWatch());
  assert.equal(look(1, 0, 3600 * S, 'connected'), 'connected');
  assert.equal(look(1, 0, 3605 * S, 'silent'), 'coming');
  assert.equal(look(1, 0, 3664 * S, 'silent'), 'coming');
  assert.equal(look(1, 0, 3665 * S, 'silent'), 'lost');
  assert.equal(look(1, 0, 3700 * S, 'connected'), 'connected');
});

void test('each start counts anew, and who had an agent before is missed', () => {
  const look = looking(new AgentWatch());
  look(1, 0, 10 * S, 'connected');
  look(1, 0, 100 * S, 'silent');
  assert.equal(look(2, 1000 * S, 1001 * S, 'silent'), 'coming');
  assert.equal(look(2, 1000 * S, 1060 * S, 'silent'), 'lost');
});
