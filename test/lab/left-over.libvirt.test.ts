import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { Lab } from '../../lab/hosts/lab.ts';
import { isAlive, type ProcessIdentity } from '../../lab/hosts/process-identity.ts';
import { until } from '../../src/lib/clock.ts';
import { tracesOf } from './traces.ts';

const LAB = fileURLToPath(new URL('../../lab/hosts/lab.ts', import.meta.url));

/** Another process that makes a lab with a program in it, and then does `next`. */
async function creator(next: string): Promise<{ child: ChildProcess; directory: string; program: ProcessIdentity }> {
  const script = `import { Lab } from ${JSON.stringify(LAB)};
    const lab = await Lab.create({ name: 'left over', hosts: ['a'], libvirt: false });
    const sleep = lab.host('a').spawn(['sleep', '1000']);
    sleep.unref();
    console.log(JSON.stringify({ directory: lab.directory, program: await sleep.identity() }));
    ${next}`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', script], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [line] = (await once(child.stdout!, 'data')) as [Buffer];
  const said = JSON.parse(line.toString()) as { directory: string; program: ProcessIdentity };
  return { child, ...said };
}

const FOR_EVER = 'setInterval(() => {}, 1000);';

async function assertGone(directory: string): Promise<void> {
  await until(() => tracesOf(directory).length === 0, {
    timeoutMs: 5000,
    onTimeout: () => new Error(tracesOf(directory).join('; ')),
  });
}

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  test(`a creator that gets ${signal} removes its lab, and ends by that signal`, async () => {
    const { child, directory, program } = await creator(FOR_EVER);
    assert.ok(isAlive(program));
    child.kill(signal);
    assert.deepEqual(await once(child, 'exit'), [null, signal]);
    assert.ok(!isAlive(program));
    await assertGone(directory);
  });
}

test('a creator that just ends, or fails, leaves nothing', async () => {
  for (const [end, code] of [
    ['process.exit(3);', 3],
    ['throw new Error("meant to be seen here");', 1],
  ] as const) {
    const { child, directory, program } = await creator(end);
    assert.deepEqual(await once(child, 'exit'), [code, null]);
    assert.ok(!isAlive(program));
    await assertGone(directory);
  }
});

test('what a killed creator left is removed by another; labs that are in use are not', async () => {
  await using mine = await Lab.create({ name: 'mine', hosts: ['a'], libvirt: false });
  const killed = await creator(FOR_EVER);
  killed.child.kill('SIGKILL');
  await once(killed.child, 'exit');
  assert.ok(isAlive(killed.program));

  const removed = await Lab.clean();
  assert.ok(
    removed.some((line) => line.startsWith(`${killed.directory} (left over: a)`)),
    removed.join('; '),
  );
  assert.ok(!isAlive(killed.program));
  await assertGone(killed.directory);
  assert.ok(mine.host('a').running);
});

test('a lab that is kept outlives its creator until it is cleaned on purpose', async () => {
  const { child, directory, program } = await creator('lab.keep(); process.exit();');
  await once(child, 'exit');
  assert.ok(isAlive(program));
  assert.ok(!(await Lab.clean()).some((line) => line.startsWith(`${directory} `)));
  assert.ok(isAlive(program) && existsSync(directory));
  assert.ok((await Lab.clean({ kept: true, name: 'left over' })).some((line) => line.startsWith(`${directory} `)));
  assert.ok(!isAlive(program));
  await assertGone(directory);
});
