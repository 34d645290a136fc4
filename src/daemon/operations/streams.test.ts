import assert from 'node:assert/strict';
import { getEventListeners } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { Journal } from '../../journal/journal.ts';
import type { Plan } from '../../journal/plan.ts';
import { MemoryStore } from '../../store/memory/store.ts';
import type { DaemonServices } from '../services.ts';
import { streamOperations } from './streams.ts';

const DEFINITION = { kind: 'point-export', steps: [{ name: 'Write it' }] };

async function begun(t: TestContext): Promise<{ journal: Journal; plan: Plan; watch: ReturnType<typeof watcher> }> {
  const directory = mkdtempSync(join(tmpdir(), 'us-streams-'));
  t.after(() => rmSync(directory, { recursive: true }));
  const journal = await Journal.open(directory);
  const plan = await journal.begin(DEFINITION, { relationship: 'r', args: {} });
  return { journal, plan, watch: watcher(journal) };
}

function watcher(journal: Journal) {
  const services = { store: new MemoryStore(), actions: { journal } } as unknown as DaemonServices;
  const { actionWatch } = streamOperations(services, () => assert.fail('no relationship is shown'));
  return actionWatch;
}

const done = (plan: Plan): Plan => ({ ...plan, state: 'done', steps: [{ name: 'Write it', done: true }] });

void test('whoever watches an action sees it end, and leaves nothing behind', async (t) => {
  const { journal, plan, watch } = await begun(t);
  const { signal } = new AbortController();
  const states: string[] = [];
  for await (const { state } of await watch({ action: plan.id }, { signal })) {
    states.push(state);
    if (state === 'running') await journal.put(done(plan));
  }
  assert.deepEqual(states, ['running', 'done']);
  assert.deepEqual(getEventListeners(signal, 'abort'), []);
});

void test('so does who looks at one that had ended before', async (t) => {
  const { journal, plan, watch } = await begun(t);
  await journal.put(done(plan));
  const { signal } = new AbortController();
  const seen = await Array.fromAsync(await watch({ action: plan.id }, { signal }), ({ state }) => state);
  assert.deepEqual(seen, ['done']);
  assert.deepEqual(getEventListeners(signal, 'abort'), []);
});
