import type { DatabaseSync } from 'node:sqlite';
import { Failure } from '../../model/failure.ts';

/**
 * Brings a database to the newest layout. Step n (from 1) leads from version n-1 to n and is one transaction together
 * with the version's own change, so that a crash leaves a version whole. Steps are only ever added.
 * Failure `format-unknown` when the database is newer than the steps; it isn't touched then.
 * @param name says in the error which database it is.
 */
export function migrate(database: DatabaseSync, steps: readonly string[], name: string): void {
  let version = versionOf(database);
  if (version > steps.length) {
    throw new Failure('format-unknown', `${name} has layout version ${version}; this version knows ${steps.length}`);
  }
  for (const step of steps.slice(version)) {
    version++;
    database.exec('BEGIN IMMEDIATE');
    try {
      database.exec(step);
      database.exec(`PRAGMA user_version = ${version}`);
      database.exec('COMMIT');
    } catch (error) {
      database.exec('ROLLBACK');
      throw error;
    }
  }
}

/** Layout version that a database is at; 0 for an empty one. */
export function versionOf(database: DatabaseSync): number {
  return Number(database.prepare('PRAGMA user_version').get()?.['user_version']);
}
