/**
 * What a host remembers, to be watched by strace: a plan that succeeds or is taken back, or a store that is written, closed
 * and written again. Says what is durable.
 * Usage: host-life.ts DIRECTORY succeed|fail|store
 */
import { writeSync } from 'node:fs';
import { join } from 'node:path';
import { SqliteStore } from '../../../src/store/sqlite/store.ts';
import { fullRelationship } from '../../conformance/store.ts';
import { carryOut } from '../plan-runner.ts';

export const storePath = (directory: string): string => join(directory, 'understudy.sqlite');
const WRITES = 20;

function write(directory: string, from: number): void {
  const store = SqliteStore.open(storePath(directory));
  for (let epoch = from; epoch < from + WRITES; epoch++) {
    store.putRelationship({ ...fullRelationship('r'), epoch });
    store.addEvent({ time: epoch, severity: 'info', relationship: 'r', kind: 'wrote', message: '' });
    writeSync(1, `said written ${epoch}\n`);
  }
  store.close();
}

async function live(directory: string, what: string): Promise<void> {
  if (what === 'store') {
    for (const from of [1, 1 + WRITES]) write(directory, from);
  } else {
    await carryOut(directory, what);
    writeSync(1, 'said ended\n');
  }
}

if (import.meta.main) await live(process.argv[2]!, process.argv[3]!);
