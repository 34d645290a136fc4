import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { test } from 'node:test';
import { identify, isAlive, parseStat, signalProcess } from './process-identity.ts';

test('a process is known by pid and start time, and gone when it is dead', async () => {
  const child = spawn('sleep', ['60']);
  const identity = identify(child.pid!)!;
  assert.ok(isAlive(identity));
  assert.ok(!isAlive({ ...identity, startTime: `${identity.startTime}1` }), 'another process of that pid');
  assert.ok(!isAlive({ ...identity, bootId: 'another boot' }));
  assert.ok(!signalProcess({ ...identity, startTime: '1' }, 'SIGKILL'));
  assert.ok(signalProcess(identity, 'SIGKILL'));
  assert.deepEqual(await once(child, 'exit'), [null, 'SIGKILL']);
  assert.ok(!isAlive(identity));
  assert.equal(identify(child.pid!), undefined);
});

test('a name with brackets and spaces does not confuse, half a line is none', () => {
  const fields = Array.from({ length: 30 }, (_, index) => String(100 + index)).join(' ');
  assert.deepEqual(parseStat(`42 (a) b (c)) S ${fields}\n`), { pid: 42, state: 'S', startTime: '118' });
  assert.equal(parseStat('42 (sh) S 1 2'), undefined);
});
