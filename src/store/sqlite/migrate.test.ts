import assert from 'node:assert/strict';
import { DatabaseSync } from 'node:sqlite';
import { test } from 'node:test';
import { Failure } from '../../model/failure.ts';
import { migrate, versionOf } from './migrate.ts';

const ONE = 'CREATE TABLE host (name TEXT)';
const TWO = "ALTER TABLE host ADD COLUMN port INTEGER NOT NULL DEFAULT 8443; UPDATE host SET name = name || '.example'";

test('an older database is brought to the newest layout with its rows, once', () => {
  const database = new DatabaseSync(':memory:');
  migrate(database, [ONE], 'store');
  database.exec("INSERT INTO host VALUES ('a')");
  assert.equal(versionOf(database), 1);
  migrate(database, [ONE, TWO], 'store');
  migrate(database, [ONE, TWO], 'store');
  assert.equal(versionOf(database), 2);
  assert.deepEqual({ ...database.prepare('SELECT * FROM host').get() }, { name: 'a.example', port: 8443 });
});

test('a step that fails leaves the version before it, whole', () => {
  const database = new DatabaseSync(':memory:');
  const broken = "CREATE TABLE extra (x); INSERT INTO nowhere VALUES ('a')";
  assert.throws(() => migrate(database, [ONE, broken], 'store'), /nowhere/);
  assert.equal(versionOf(database), 1);
  const tables = database.prepare("SELECT name FROM sqlite_master WHERE type = 'table'").all();
  assert.deepEqual(
    tables.map((row) => row['name']),
    ['host'],
  );
});

test('a newer database is refused by its version and not touched', () => {
  const database = new DatabaseSync(':memory:');
  migrate(database, [ONE, TWO], 'store');
  assert.throws(
    () => migrate(database, [ONE], 'store /x'),
    (error) => error instanceof Failure && error.code === 'format-unknown' && /store \/x.*2.*1/.test(error.message),
  );
  assert.equal(versionOf(database), 2);
});
