import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { WRITER } from '../deltalog/header.ts';
import { LogWriter } from '../deltalog/writer.ts';
import { until } from '../lib/clock.ts';
import { Gate } from '../lib/gate.ts';
import { silentLog } from '../lib/log.ts';
import { ReplicaLayout } from './layout.ts';
import { Merger } from './merger.ts';
import { UndoChain } from './undo-chain.ts';

const MiB = 1024 * 1024;
const position = (sequence: number) => ({ epoch: 1, sequence, state: String(sequence).padStart(32, '0') });

void describe('the merger', () => {
  let directory: string;
  let layout: ReplicaLayout;
  let busy: boolean;
  const publishing = new Gate();

  beforeEach(async () => {
    directory = await mkdtemp(join(tmpdir(), 'us-g-'));
    layout = new ReplicaLayout(directory);
    await layout.make();
    busy = false;
  });
  afterEach(async () => {
    await rm(directory, { recursive: true });
  });

  /** Undo logs of so many MiB, oldest first, of which only the oldest and the newest point are kept. */
  const chainOf = (...sizes: number[]) => chainFrom(sizes, () => true);

  /** @param isPoint whether the log at that place of the chain leads to a point. */
  async function chainFrom(
    sizes: readonly number[],
    isPoint: (index: number) => boolean,
  ): Promise<{ chain: UndoChain; merger: Merger }> {
    const disks = [{ target: 'vda', size: 1024 * MiB }];
    const block = randomBytes(64 * 1024);
    let at = 0;
    for (const [i, size] of sizes.entries()) {
      const makes = position(i + 1);
      const header = {
        writer: WRITER,
        relationship: '11111111-2222-4333-8444-555555555555',
        logId: randomBytes(16).toString('hex'),
        direction: 'undo' as const,
        disks,
        follows: position(i + 2),
        sequence: i + 1,
        epoch: 1,
        point: isPoint(i)
          ? { sequence: i + 1, epoch: 1, instant: 0, confirmed: 0, kind: 'crash-consistent' as const }
          : null,
        created: 0,
      };
      const writer = await LogWriter.create(layout.undoLog(i + 2), header, { compression: 0 });
      for (let done = 0; done < size * MiB; done += block.length) await writer.data(0, (at += block.length), block);
      await writer.finish({ makes, durable: false });
    }
    const chain = await UndoChain.open(layout, position(sizes.length + 1), undefined);
    await chain.keepOnly(new Set([1]));
    const merger = new Merger({ layout, chain, publishing, busy: () => busy, log: silentLog() });
    return { chain, merger };
  }

  async function isMerging(): Promise<boolean> {
    return (await readdir(layout.undo)).some((name) => name.endsWith('.merge'));
  }

  void test('keeps nobody waiting while it copies, and what it had written goes when it is stopped', async () => {
    busy = true;
    const { chain, merger } = await chainOf(24, 24);
    merger.wake();
    await until(isMerging, { timeoutMs: 10_000, everyMs: 1, onTimeout: () => new Error('it never began') });
    await publishing.run('publishing', async () => assert.ok(await isMerging(), 'it is not done yet'));
    await merger.stop();
    assert.deepEqual((await readdir(layout.undo)).length, 2);
    assert.equal(await isMerging(), false);
    busy = false;
    merger.wake();
    await merger.idle();
    assert.equal(chain.logs.length, 1);
    assert.deepEqual((await readdir(layout.undo)).length, 1);
  });

  void test('drops what it merged when a point was given up meanwhile, with its log', async () => {
    busy = true;
    const { chain, merger } = await chainOf(8, 8, 8);
    merger.wake();
    await until(isMerging, { timeoutMs: 10_000, everyMs: 1, onTimeout: () => new Error('it never began') });
    await publishing.run('retiring', () => chain.keepOnly(new Set()));
    busy = false;
    await merger.idle();
    assert.deepEqual(chain.logs, []);
    assert.deepEqual(await readdir(layout.undo), []);
  });

  void test('what the slices of a copy have left becomes one, but for the newest', async () => {
    const { chain, merger } = await chainFrom([2, ...Array.from({ length: 12 }, () => 1)], (i) => i === 0);
    const before = chain.logs;
    merger.wake();
    await merger.idle();
    assert.equal(before.length, 13);
    assert.equal((await readdir(layout.undo)).length, chain.logs.length);
    // What is left waits for as much again as the oldest has.
    assert.ok(chain.logs.length <= 5, `${chain.logs.length} logs are left`);
    assert.equal(chain.logs.at(-1), before.at(-1), 'the newest may be taken back yet');
    assert.deepEqual(chain.logs[0]!.makes, before[0]!.makes);
    assert.deepEqual(
      chain.points.map(({ sequence }) => sequence),
      [1],
    );
    await UndoChain.open(layout, position(14), undefined); // without a hole
  });

  void test('copies a large log only for one that is half as large', async () => {
    const sizes = async (...made: number[]) => {
      const { chain, merger } = await chainOf(...made);
      merger.wake();
      await merger.idle();
      const left = chain.logs.map(({ bytes }) => Math.round(bytes / MiB));
      await chain.keepOnly(new Set());
      return left;
    };
    assert.deepEqual(await sizes(8, 1, 1, 1, 1), [8, 3, 1]);
    assert.deepEqual(await sizes(8, 1, 1, 1, 1, 1), [13]);
    assert.deepEqual(await sizes(4, 2), [6]);
  });
});
