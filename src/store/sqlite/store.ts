import { closeSync, openSync } from 'node:fs';
import { DatabaseSync, type StatementSync } from 'node:sqlite';
import type { z } from 'zod';
import { asFailure, Failure } from '../../model/failure.ts';
import type { EventRecord, PeerRecord, RelationshipRecord, Store } from '../store.ts';
import { LAYOUT } from './layout.ts';
import { migrate } from './migrate.ts';
import { eventRecord, peerRecord, relationshipRecord } from './records.ts';

const BUSY_MS = 5000;
const SQLITE_FULL = 13;
const SQLITE_CORRUPT = 11;
const SQLITE_NOTADB = 26;
/** Older events are forgotten. */
const EVENTS_KEPT = 100_000;

/** Told of each change of a relationship, before and after it is durable; for what lies beside the database. */
export interface Witness {
  readonly before: (id: string, record: RelationshipRecord | undefined) => void;
  readonly after: (record: RelationshipRecord, peer: PeerRecord | undefined) => void;
}

/**
 * The store in one SQLite file, in WAL mode, each change synced before its call returns. A value that can't be what was
 * written throws a Failure naming its row, when it is put (`bad-request`) as when it is read (`io`); `no-space` on a
 * full file system.
 */
export class SqliteStore implements Store {
  readonly #path: string;
  readonly #database: DatabaseSync;
  readonly #witness: Witness | undefined;
  readonly #statements = new Map<string, StatementSync>();
  /** Rows that were checked when they were read last: most are asked for far more often than they change. */
  readonly #read = new Map<string, { readonly body: string; readonly checked: string }>();

  private constructor(path: string, database: DatabaseSync, witness: Witness | undefined) {
    this.#path = path;
    this.#database = database;
    this.#witness = witness;
  }

  /**
   * Opens the store, makes it if there is none (readable by its owner only), and brings an older one to the present
   * layout. Failures: `format-unknown` (written by a newer version), `io` (not a database, or out of reach).
   */
  static open(path: string, witness?: Witness): SqliteStore {
    let database: DatabaseSync | undefined;
    try {
      closeSync(openSync(path, 'a', 0o600));
      database = new DatabaseSync(path, { timeout: BUSY_MS });
      database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL');
      requireWhole(database);
      migrate(database, LAYOUT, `the store ${path}`);
      return new SqliteStore(path, database, witness);
    } catch (error) {
      database?.close();
      throw sqliteFailure(error, `the store ${path} can't be opened`);
    }
  }

  relationships(): RelationshipRecord[] {
    return this.#bodies('SELECT id AS key, body FROM relationship ORDER BY place', relationshipRecord, 'relationship');
  }

  relationship(id: string): RelationshipRecord | undefined {
    const sql = 'SELECT id AS key, body FROM relationship WHERE id = ?';
    return this.#bodies(sql, relationshipRecord, 'relationship', id)[0];
  }

  putRelationship(record: RelationshipRecord): void {
    const body = encode(relationshipRecord, record, `relationship ${record.id}`);
    this.#witness?.before(record.id, record);
    this.#run(
      'INSERT INTO relationship (id, body) VALUES (?, ?) ON CONFLICT (id) DO UPDATE SET body = excluded.body',
      record.id,
      body,
    );
    if (this.#witness !== undefined) this.#witness.after(record, this.peer(record.peer));
  }

  deleteRelationship(id: string): void {
    this.#witness?.before(id, undefined);
    this.#run('DELETE FROM relationship WHERE id = ?', id);
    this.#read.delete(`relationship ${id}`);
  }

  peers(): PeerRecord[] {
    return this.#bodies('SELECT name AS key, body FROM peer ORDER BY place', peerRecord, 'peer');
  }

  peer(name: string): PeerRecord | undefined {
    return this.#bodies('SELECT name AS key, body FROM peer WHERE name = ?', peerRecord, 'peer', name)[0];
  }

  putPeer(record: PeerRecord): void {
    const body = encode(peerRecord, record, `peer ${record.name}`);
    this.#run(
      'INSERT INTO peer (name, body) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET body = excluded.body',
      record.name,
      body,
    );
  }

  deletePeer(name: string): void {
    this.#run('DELETE FROM peer WHERE name = ?', name);
    this.#read.delete(`peer ${name}`);
  }

  setting(key: string): string | undefined {
    const row = this.#rows('SELECT value FROM setting WHERE key = ?', key)[0];
    return row === undefined ? undefined : String(row['value']);
  }

  setSetting(key: string, value: string): void {
    this.#run('INSERT INTO setting VALUES (?, ?) ON CONFLICT (key) DO UPDATE SET value = excluded.value', key, value);
  }

  addEvent(event: Omit<EventRecord, 'id'>): EventRecord {
    const { time, severity, relationship, kind, message } = event;
    encode(eventRecord, { id: 1, ...event }, `event ${kind}`);
    const sql = 'INSERT INTO event (time, severity, relationship, kind, message) VALUES (?, ?, ?, ?, ?)';
    const id = this.#run(sql, Math.round(time), severity, relationship, kind, message);
    if (id % 100 === 0) this.#run('DELETE FROM event WHERE id <= ?', id - EVENTS_KEPT);
    return { id, time: Math.round(time), severity, relationship, kind, message };
  }

  events(options: { relationship?: string; before?: number; limit: number }): EventRecord[] {
    const before = options.before ?? Number.MAX_SAFE_INTEGER;
    const rows =
      options.relationship === undefined
        ? this.#rows('SELECT * FROM event WHERE id < ? ORDER BY id DESC LIMIT ?', before, options.limit)
        : this.#rows(
            'SELECT * FROM event WHERE relationship = ? AND id < ? ORDER BY id DESC LIMIT ?',
            options.relationship,
            before,
            options.limit,
          );
    return rows.map((row) => this.#check(eventRecord, { ...row }, `event ${String(row['id'])}`));
  }

  close(): void {
    this.#database.close();
  }

  #bodies<T>(sql: string, schema: z.ZodType<T>, what: string, ...parameters: string[]): T[] {
    return this.#rows(sql, ...parameters).map((row) => {
      const name = `${what} ${String(row['key'])}`;
      const body = String(row['body']);
      const read = this.#read.get(name);
      if (read?.body === body) return JSON.parse(read.checked) as T; // each reader gets a copy of his own
      let json: unknown;
      try {
        json = JSON.parse(body);
      } catch (cause) {
        throw new Failure('io', `${this.#path}: ${name} is not JSON`, { cause, hint: DAMAGED });
      }
      const value = this.#check(schema, json, name);
      this.#read.set(name, { body, checked: JSON.stringify(value) });
      return value;
    });
  }

  #check<T>(schema: z.ZodType<T>, value: unknown, name: string): T {
    const result = schema.safeParse(value);
    if (result.success) return result.data;
    throw new Failure('io', `${this.#path}: ${name} is damaged: ${firstIssue(result.error)}`, { hint: DAMAGED });
  }

  #rows(sql: string, ...parameters: (string | number)[]): Record<string, unknown>[] {
    try {
      return this.#statement(sql).all(...parameters);
    } catch (error) {
      throw sqliteFailure(error, `${this.#path} can't be read`);
    }
  }

  /** Gives the row's number, where one was inserted. */
  #run(sql: string, ...parameters: (string | number | null)[]): number {
    try {
      return Number(this.#statement(sql).run(...parameters).lastInsertRowid);
    } catch (error) {
      throw sqliteFailure(error, `${this.#path} can't be written`);
    }
  }

  #statement(sql: string): StatementSync {
    let statement = this.#statements.get(sql);
    if (statement === undefined) this.#statements.set(sql, (statement = this.#database.prepare(sql)));
    return statement;
  }
}

const DAMAGED = 'Restore the file from a backup, or stop the service, move the file away and pair and adopt anew.';

function firstIssue(error: z.ZodError): string {
  const issue = error.issues[0];
  return `${issue?.path.join('.')}: ${issue?.message}`;
}

function encode<T>(schema: z.ZodType<T>, value: T, name: string): string {
  const result = schema.safeParse(value);
  if (!result.success) throw new Failure('bad-request', `${name} can't be stored: ${firstIssue(result.error)}`);
  return JSON.stringify(value);
}

/** A damaged database may serve for long, until it is asked for what is damaged. */
function requireWhole(database: DatabaseSync): void {
  const found = database.prepare('PRAGMA quick_check(1)').get()?.['quick_check'];
  if (found !== 'ok') throw Object.assign(new Error(String(found)), { errcode: SQLITE_CORRUPT });
}

/** Whether a store could not be opened because what is in its file is damaged, or no database at all. */
export function isDamaged(failure: Failure): boolean {
  const { errcode } = (failure.cause ?? {}) as { errcode?: number };
  return errcode !== undefined && [SQLITE_CORRUPT, SQLITE_NOTADB].includes(errcode & 0xff);
}

function sqliteFailure(error: unknown, what: string): Failure {
  if (error instanceof Failure) return error;
  const errcode = (error as { errcode?: number } | undefined)?.errcode;
  const failure = asFailure(error, errcode === SQLITE_FULL ? 'no-space' : 'io');
  return new Failure(failure.code, `${what}: ${failure.message}`, { cause: error });
}
