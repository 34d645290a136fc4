import assert from 'node:assert/strict';
import { mkdtemp, rmdir } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { run } from '../../src/lib/process.ts';

void test('on a full disk a replica waits for room, and goes on by itself', async () => {
  const directory = await mkdtemp(join(tmpdir(), 'us-f-'));
  try {
    const script = join(import.meta.dirname, 'replica-full-disk.ts');
    const command = 'mount -t tmpfs -o size=8m none "$1" && exec "$2" "$3" "$1"';
    const { code, stderr } = await run(
      'unshare',
      ['--mount', '--propagation', 'private', 'sh', '-c', command, 'sh', directory, process.execPath, script],
      { timeoutMs: 60_000 },
    );
    assert.equal(code, 0, stderr);
  } finally {
    await rmdir(directory);
  }
});
