import assert from 'node:assert/strict';
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { until } from '../../src/lib/clock.ts';
import { Witness } from './witness.ts';

test('what is announced lies between the moments it is stamped with', async () => {
  const directory = mkdtempSync(join(tmpdir(), 'us-witness-'));
  const path = join(directory, 'announcements');
  using witness = new Witness(path);
  const moment = async (line: string, seen: () => boolean) => {
    const before = Date.now();
    if (line.startsWith('BEG 1 ')) writeFileSync(path, line);
    else appendFileSync(path, line);
    const after = Date.now();
    await until(seen, { timeoutMs: 5000, everyMs: 1, onTimeout: () => new Error(`${line} not seen`) });
    return { before, after };
  };
  try {
    const begun = await moment('BEG 1 5\n', () => witness.begun.length === 1);
    const completed = await moment('REC 1 6\nBEG 2', () => witness.completed.length === 1);
    await moment(' 7\n', () => witness.begun.length === 2);

    for (const [stamp, { before, after }] of [
      [witness.begun[0]!, begun],
      [witness.completed[0]!, completed],
    ] as const) {
      assert.ok(stamp.notBefore <= after, `${stamp.notBefore} ≤ ${after}`);
      assert.ok(stamp.seen >= before, `${stamp.seen} ≥ ${before}`);
    }
    assert.equal(witness.lastCompleteBefore(completed.before - 1), 0);
    assert.equal(witness.lastCompleteBefore(witness.completed[0]!.seen), 1);
    assert.equal(witness.firstBegunAfter(0), 1);
    assert.equal(witness.firstBegunAfter(witness.begun[1]!.notBefore), 2);
    assert.equal(witness.firstBegunAfter(witness.begun[1]!.notBefore + 1), undefined);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test('a file that begins anew is read from its beginning', () => {
  const directory = mkdtempSync(join(tmpdir(), 'us-witness-'));
  const path = join(directory, 'announcements');
  try {
    using witness = new Witness(path);
    writeFileSync(path, 'BEG 1 5\nREC 1 6\nBEG 2 7\n');
    witness.poll();
    writeFileSync(path, 'BEG 3 9\n');
    witness.poll();
    assert.deepEqual(
      witness.begun.map(({ number }) => number),
      [1, 2, 3],
    );
  } finally {
    rmSync(directory, { recursive: true });
  }
});
