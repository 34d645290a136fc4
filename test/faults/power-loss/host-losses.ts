/** Power losses of a host in the middle of a plan, and while its store is written. */
import assert from 'node:assert/strict';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { DatabaseSync } from 'node:sqlite';
import { hasEnded } from '../../../src/journal/plan.ts';
import { Journal } from '../../../src/journal/journal.ts';
import { SqliteStore } from '../../../src/store/sqlite/store.ts';
import { carryOut, FINISHED, PLAN_ID, readWorld, UNTOUCHED } from '../plan-runner.ts';
import { seeded } from '../replica-primary.ts';
import { storePath } from './host-life.ts';
import { losePower } from './losses.ts';
import { traced } from './trace.ts';

export interface HostLosses {
  readonly seed: number;
  readonly losses: number;
  readonly ignored?: (path: string) => boolean;
}

type Check = (root: string, said: readonly string[]) => Promise<void>;

async function loseHost(what: string, options: HostLosses, check: Check): Promise<void> {
  const directory = await mkdtemp(join(tmpdir(), 'us-h-'));
  try {
    const root = join(directory, 'host');
    await mkdir(root);
    const script = join(import.meta.dirname, 'host-life.ts');
    const operations = await traced(root, join(directory, 'trace'), script, [root, what]);
    const random = seeded(options.seed);
    await losePower({ ...options, root, operations, random, check: (said) => check(root, said) });
  } finally {
    await rm(directory, { recursive: true });
  }
}

/** Nothing is done that no plan knows of, what has ended stays so, and all the rest is finished, or as if it had never been. */
export async function loseJournal(options: HostLosses): Promise<void> {
  for (const outcome of ['succeed', 'fail']) {
    await loseHost(outcome, options, async (root, said) => {
      const plan = (await Journal.open(join(root, 'journal'))).plan(PLAN_ID);
      const touched = readWorld(root).done.length > 0;
      assert.ok(plan !== undefined || !touched, 'something was done, and its plan is gone');
      assert.ok(!said.includes('ended') || (plan !== undefined && hasEnded(plan)), 'the plan had ended');
      await carryOut(root, outcome);
      assert.deepEqual(readWorld(root), outcome === 'succeed' ? FINISHED : UNTOUCHED);
    });
  }
}

/** What was written stays, and the database is whole. */
export async function loseStore(options: HostLosses): Promise<void> {
  await loseHost('store', options, (root, said) => {
    const written = Number(said.at(-1)?.split(' ')[1] ?? 0);
    const store = SqliteStore.open(storePath(root));
    const epoch = store.relationship('r')?.epoch ?? 0;
    const events = store.events({ relationship: 'r', limit: 1000 }).length;
    store.close();
    assert.ok(epoch >= written && epoch <= written + 1, `epoch ${written} was written; ${epoch} is there`);
    assert.ok(events >= written, `${written} events were written; ${events} are there`);
    const database = new DatabaseSync(storePath(root));
    try {
      const [row] = database.prepare('PRAGMA integrity_check').all();
      assert.equal(row?.['integrity_check'], 'ok');
    } finally {
      database.close();
    }
    return Promise.resolve();
  });
}
