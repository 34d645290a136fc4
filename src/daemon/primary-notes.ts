/**
 * What the state database knows of the VMs that this host is the primary of, once more, a file for each: a replica's directory describes
 * itself, a VM's disks don't say where they are replicated to. A database that is lost, or an old copy of which was restored, is found out
 * by these (restored-store.ts). Written whenever one of their facts changes, which is rare; there as long as this host is the primary and
 * no failover can be cancelled any more.
 */
import {
  closeSync,
  fdatasyncSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeSync,
} from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';
import { diskSchema } from '../deltalog/header.ts';
import { DEFINITION_POLICIES } from '../model/definition-changes.ts';
import type { PeerRecord, RelationshipRecord } from '../store/store.ts';

const count = z.number().int().min(0);
const noteSchema = z.object({
  format: z.literal(0),
  id: z.guid(),
  vmId: z.string(),
  vmName: z.string(),
  epoch: count,
  peer: z.object({ name: z.string(), address: z.string(), caCertificate: z.string(), caFingerprint: z.string() }),
  disks: z.array(diskSchema.extend({ path: z.string() })),
  definition: z.string(),
  autostart: z.boolean(),
  suspended: z.boolean(),
  intervalSeconds: z.number().positive(),
  history: count,
  thin: z.array(z.object({ everySeconds: count, count })).default([]),
  autoResync: z.string().optional(),
  definitionPolicy: z.enum(DEFINITION_POLICIES).optional(),
  replicaPlaintext: z.boolean().default(false),
  leftOut: z.array(z.string()).optional(),
  leaseSeconds: count.default(0),
  readBytesPerSecond: count.default(0),
  readIops: count.default(0),
  created: z.number(),
});
export type PrimaryNote = z.infer<typeof noteSchema>;

/** States in which what runs on which disks is more than a note says. */
const TRANSIENT = new Set(['FailedOverWaitingCompletion', 'FailedOver', 'PreparedForFailover', 'SteppedDown']);

export class PrimaryNotes {
  readonly #directory: string;
  /** As they are in the files. */
  readonly #written = new Map<string, string>();

  constructor(directory: string) {
    this.#directory = directory;
    mkdirSync(directory, { recursive: true, mode: 0o700 });
  }

  /** What is there. A file that isn't whole says nothing. */
  all(): PrimaryNote[] {
    return readdirSync(this.#directory)
      .filter((name) => name.endsWith('.json'))
      .flatMap((name) => {
        const parsed = noteSchema.safeParse(readJson(join(this.#directory, name)));
        return parsed.success ? [parsed.data] : [];
      });
  }

  /** To be told before the database is: what is no primary's any more must not be found by anybody. */
  before(id: string, record: RelationshipRecord | undefined): void {
    if (record !== undefined && isNoted(record)) return;
    this.#written.delete(id);
    rmSync(this.#path(id), { force: true });
  }

  /** To be told after. */
  after(record: RelationshipRecord, peer: PeerRecord | undefined): void {
    if (!isNoted(record) || peer === undefined) return;
    const text = JSON.stringify(noteOf(record, peer), undefined, 2);
    if (this.#written.get(record.id) === text) return;
    writeDurably(this.#path(record.id), text);
    this.#written.set(record.id, text);
  }

  #path(id: string): string {
    return join(this.#directory, `${id}.json`);
  }
}

function isNoted({ role, state, failover }: RelationshipRecord): boolean {
  return role === 'primary' && failover === null && !TRANSIENT.has(state);
}

function noteOf(record: RelationshipRecord, peer: PeerRecord): PrimaryNote {
  const { id, vmId, vmName, epoch, disks, definition, autostart, suspended, intervalSeconds, history, created } =
    record;
  const { thin = [], autoResync, definitionPolicy, leaseSeconds = 0, readBytesPerSecond = 0, readIops = 0 } = record;
  const { replicaPlaintext = false } = record;
  const limits = { readBytesPerSecond, readIops };
  const settings = { intervalSeconds, history, thin: [...thin], leaseSeconds, ...limits, replicaPlaintext };
  const vm = { vmId, vmName, disks: [...disks], definition, autostart, suspended };
  return {
    format: 0,
    id,
    epoch,
    peer,
    ...vm,
    ...settings,
    ...(autoResync === undefined ? {} : { autoResync }),
    ...(definitionPolicy === undefined ? {} : { definitionPolicy }),
    ...(record.leftOut === undefined ? {} : { leftOut: [...record.leftOut] }),
    created,
  };
}

function readJson(path: string): unknown {
  try {
    return JSON.parse(readFileSync(path, 'utf8'));
  } catch {
    return undefined; // torn, or gone: it says nothing
  }
}

function writeDurably(path: string, text: string): void {
  const file = openSync(`${path}.tmp`, 'w', 0o600);
  try {
    writeSync(file, text);
    fdatasyncSync(file);
  } finally {
    closeSync(file);
  }
  renameSync(`${path}.tmp`, path);
}
