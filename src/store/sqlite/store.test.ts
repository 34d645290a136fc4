import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { DatabaseSync } from 'node:sqlite';
import { after, before, describe, test } from 'node:test';
import { bareRelationship, fullRelationship, runStoreConformance } from '../../../test/conformance/store.ts';
import { Failure } from '../../model/failure.ts';
import { LAYOUT } from './layout.ts';
import { SqliteStore } from './store.ts';

let directory: string;
let files = 0;
const fresh = () => join(directory, `store-${files++}.db`);
const fails = (code: string, message: RegExp) => (error: unknown) =>
  error instanceof Failure && error.code === code && message.test(error.message);

before(() => {
  directory = mkdtempSync(join(tmpdir(), 'understudy-store-'));
});
after(() => {
  rmSync(directory, { recursive: true });
});

runStoreConformance('sqlite', () => SqliteStore.open(fresh()));

describe('sqlite store', () => {
  test('everything is there after it was closed and opened again, and event ids go on', () => {
    const path = fresh();
    let store = SqliteStore.open(path);
    const event = { time: 1, severity: 'info', relationship: null, kind: 'started', message: '' } as const;
    store.putRelationship(fullRelationship('r1'));
    store.setSetting('k', 'v');
    const first = store.addEvent(event);
    store.close();
    store = SqliteStore.open(path);
    assert.deepEqual(store.relationships(), [fullRelationship('r1')]);
    assert.equal(store.setting('k'), 'v');
    assert.ok(store.addEvent(event).id > first.id);
    store.close();
  });

  test('only its owner can read it', () => {
    const path = fresh();
    const store = SqliteStore.open(path);
    store.setSetting('k', 'v');
    for (const file of [path, `${path}-wal`]) assert.equal(statSync(file).mode & 0o777, 0o600, file);
    store.close();
  });

  test('a value that is not of its schema is refused by the name of its row, read or put', () => {
    const path = fresh();
    const store = SqliteStore.open(path);
    store.putRelationship(fullRelationship('r1'));
    store.putRelationship(fullRelationship('r2'));
    const other = new DatabaseSync(path);
    other.exec("UPDATE relationship SET body = json_set(body, '$.epoch', 'x') WHERE id = 'r1'");
    other.exec("UPDATE relationship SET body = substr(body, 1, 40) WHERE id = 'r2'");
    other.exec("INSERT INTO event (time, severity, kind, message) VALUES (1, 'loud', 'k', 'm')");
    other.close();
    assert.throws(() => store.relationship('r1'), fails('io', /relationship r1 .*epoch/));
    assert.throws(() => store.relationship('r2'), fails('io', /relationship r2 is not JSON/));
    assert.throws(() => store.relationships(), fails('io', /relationship r1/));
    assert.throws(() => store.events({ limit: 1 }), fails('io', /event 1 .*severity/));
    const wrong = { ...bareRelationship('r3'), epoch: Number.NaN };
    assert.throws(() => store.putRelationship(wrong), fails('bad-request', /relationship r3 .*epoch/));
    assert.equal(store.relationship('r3'), undefined);
    store.close();
  });

  test('events are forgotten when there are too many, the oldest first', () => {
    const path = fresh();
    const store = SqliteStore.open(path);
    const event = { time: 1, severity: 'info', relationship: null, kind: 'started', message: '' } as const;
    const oldest = store.addEvent(event);
    const other = new DatabaseSync(path);
    other.exec("UPDATE sqlite_sequence SET seq = 100098 WHERE name = 'event'");
    other.close();
    const kept = store.addEvent(event);
    assert.deepEqual(store.events({ limit: 9 }), [kept, oldest]);
    const newest = store.addEvent(event);
    assert.deepEqual(store.events({ limit: 9 }), [newest, kept]);
    store.close();
  });

  test('a newer layout and a file that is no database are refused by name', () => {
    const newer = fresh();
    SqliteStore.open(newer).close();
    const database = new DatabaseSync(newer);
    database.exec(`PRAGMA user_version = ${LAYOUT.length + 1}`);
    database.close();
    assert.throws(() => SqliteStore.open(newer), fails('format-unknown', new RegExp(newer)));
    const text = fresh();
    writeFileSync(text, 'not a database at all, but long enough to be looked at'.repeat(20));
    assert.throws(() => SqliteStore.open(text), fails('io', new RegExp(text)));
    assert.throws(() => SqliteStore.open('/nonexistent/store.db'), fails('io', /nonexistent/));
  });

  test('after kill -9 in the middle of writing, every write that was reported is there', async (context) => {
    const path = fresh();
    const writer = join(import.meta.dirname, '../../../test/faults/store-writer.ts');
    const child = spawn(process.execPath, [writer, path], { stdio: ['ignore', 'pipe', 'inherit'] });
    context.after(() => child.kill('SIGKILL'));
    const exited = once(child, 'exit');
    let reported = 0;
    for await (const line of createInterface(child.stdout)) {
      const [epoch, event] = line.split(' ').map(Number);
      assert.equal(epoch, event);
      reported = epoch!;
      if (reported === 100) child.kill('SIGKILL');
    }
    await exited;
    assert.equal(child.signalCode, 'SIGKILL');
    const store = SqliteStore.open(path);
    const stored = store.relationship('r')!;
    assert.ok(stored.epoch >= reported && stored.epoch <= reported + 1, `${stored.epoch} after ${reported}`);
    const last = store.events({ limit: 1 })[0]!.id;
    assert.ok(last >= reported && last <= reported + 1, `${last} after ${reported}`);
    store.close();
  });
});
