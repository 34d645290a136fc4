import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { run } from '../../src/lib/process.ts';

for (const [policy, what] of [
  [
    'wait',
    'of a Replica server: it waits for space, says how much is missing, and goes on by itself as soon as there is',
  ],
  ['oldest-points', 'of a Replica server: it gives its oldest recovery points up where it is told to, and goes on'],
  ['primary', 'of a primary: it goes on by itself as soon as there is room for its outbox'],
] as const) {
  void test(`a full file system ${what}`, async () => {
    const directory = await mkdtemp(join(tmpdir(), 'us-w-'));
    try {
      const script = join(import.meta.dirname, 'waiting-for-space.ts');
      const { code, stderr } = await run(
        'unshare',
        ['--mount', '--propagation', 'private', process.execPath, script, directory, policy],
        { timeoutMs: 120_000 },
      );
      assert.equal(code, 0, stderr);
    } finally {
      await rm(directory, { recursive: true });
    }
  });
}
