/**
 * What a replica knows of itself, beside its disks: enough to serve it again with nothing but its directory.
 */
import { readFile } from 'node:fs/promises';
import { isAbsolute, join, relative, resolve } from 'node:path';
import { z } from 'zod';
import { CURE_OF_VERSION_0, diskSchema, pointSchema, positionSchema } from '../deltalog/header.ts';
import { writeAtomic } from '../lib/atomic-file.ts';
import { Gate } from '../lib/gate.ts';
import { AUTO_RESYNC_PATTERN, DEFAULT_AUTO_RESYNC } from '../model/auto-resync.ts';
import { DEFAULT_DEFINITION_POLICY, DEFINITION_POLICIES } from '../model/definition-changes.ts';
import { Failure } from '../model/failure.ts';
import type { Store } from '../store/store.ts';
import { damageSchema, NO_DAMAGE } from './damage.ts';
import { NO_SCRUB, scrubSchema } from './scrub-record.ts';

const FORMAT = 1;

const count = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);

const recordSchema = z.strictObject({
  format: z.literal(FORMAT),
  id: z.guid(),
  vmId: z.guid(),
  vmName: z.string(),
  /** As this host defines the VM. */
  definition: z.string(),
  /** What the primary said last, and since when (ms since the epoch, this host's clock); null: nothing since the replica was made. */
  received: z.strictObject({ definition: z.string(), since: z.number() }).nullable().default(null),
  definitionPolicy: z.enum(DEFINITION_POLICIES).default(DEFAULT_DEFINITION_POLICY),
  disks: z
    .array(
      diskSchema.extend({
        path: z.string().min(1),
        /** Of one that is gone: no point has it any more, and its image holds nothing. */
        emptied: z.literal(true).exactOptional(),
      }),
    )
    .min(1),
  /** Logs of a lower epoch are refused. */
  epoch: count,
  /** The primary's host, and how this one is paired with it; null where that wasn't told. */
  peer: z
    .strictObject({
      name: z.string().min(1),
      pairing: z.strictObject({ address: z.string(), caCertificate: z.string(), caFingerprint: z.string() }).nullable(),
    })
    .nullable()
    .default(null),
  intervalSeconds: z.number().positive(),
  /** Recovery points kept besides the latest state. */
  history: z.number().int().min(0).max(10_000),
  /** Which of the older ones are kept besides. */
  thin: z
    .array(z.strictObject({ everySeconds: z.number().int().min(1), count: z.number().int().min(1).max(10_000) }))
    .max(16)
    .default([]),
  /** `fence: lease`: a failover waits until the primary's lease of so many seconds is surely over. 0: none. */
  leaseSeconds: z.number().int().min(0).default(0),
  /** When comparisons begin, once this host is the primary. */
  autoResync: z.string().regex(AUTO_RESYNC_PATTERN).default(DEFAULT_AUTO_RESYNC),
  /** Position from which the primary began to count. */
  start: positionSchema,
  /** The state that the disks hold. */
  applied: positionSchema,
  /** The log that made `applied`; null before the first. A primary that missed the acknowledgement sends it again. */
  appliedLog: z.strictObject({ logId: z.string(), bytes: count }).nullable(),
  /** The recovery point that `applied` is; null in the middle of a copy. */
  latest: pointSchema.nullable(),
  /** Sequences of points that stay whatever the policy says: somebody works with them. */
  held: z.array(count).default([]),
  /** What is known to be damaged. */
  damage: damageSchema.default(NO_DAMAGE),
  /** How far the looking for damage is. */
  scrub: scrubSchema.default(NO_SCRUB),
  /** The administrator of this host has paused replication. */
  suspended: z.boolean().default(false),
  /** The disks are released for a failover, also after a restart. */
  frozen: z.boolean(),
});

export type ReplicaRecord = z.infer<typeof recordSchema>;
export type ReplicaPeer = NonNullable<ReplicaRecord['peer']>;

/** What a replica keeps of its primary's host, so that it is found again without the store. */
export function rememberPeer(store: Pick<Store, 'peer'>, name: string): ReplicaPeer {
  const known = store.peer(name);
  if (known === undefined) return { name, pairing: null };
  const { address, caCertificate, caFingerprint } = known;
  return { name, pairing: { address, caCertificate, caFingerprint } };
}

/** Throws `bad-request` for what can't be a record: what it holds came over the network. */
export function checkRecord(value: Omit<ReplicaRecord, 'format'>): void {
  const parsed = recordSchema.safeParse({ format: FORMAT, ...value });
  const issue = parsed.error?.issues[0];
  if (issue !== undefined) throw new Failure('bad-request', `${issue.path.join('.')}: ${issue.message}`);
  const targets = new Set(value.disks.map(({ target }) => target));
  if (targets.size !== value.disks.length) throw new Failure('bad-request', 'two disks have the same target');
}

/** The record in its file. Changes are written one after the other, each durable when its promise resolves. */
export class RecordFile {
  readonly #path: string;
  readonly #directory: string;
  readonly #gate = new Gate();
  #value: ReplicaRecord;

  private constructor(directory: string, value: ReplicaRecord) {
    this.#directory = directory;
    this.#path = join(directory, 'replica.json');
    this.#value = value;
  }

  static async create(directory: string, value: Omit<ReplicaRecord, 'format'>): Promise<RecordFile> {
    const file = new RecordFile(directory, { format: FORMAT, ...value });
    await file.update({});
    return file;
  }

  /** Failures: `format-unknown`, `io` for a record that isn't one; ENOENT as it comes. */
  static async open(directory: string): Promise<RecordFile> {
    const path = join(directory, 'replica.json');
    const text = await readFile(path, 'utf8');
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch (cause) {
      throw new Failure('io', `${path} is not JSON`, { cause, hint: 'Restore the file, or remove the replica.' });
    }
    const format = (json as { format?: unknown } | null)?.format;
    if (format !== FORMAT) {
      const message = `${path} has format ${String(format)}; this version reads ${FORMAT}`;
      throw new Failure('format-unknown', message, format === 0 ? { hint: CURE_OF_VERSION_0 } : {});
    }
    const parsed = recordSchema.safeParse(json);
    if (!parsed.success) {
      const issue = parsed.error.issues[0];
      throw new Failure('io', `${path}: ${issue?.path.join('.')}: ${issue?.message}`, {
        hint: 'Restore the file, or remove the replica.',
      });
    }
    // Disks of ours are named from the directory on, so that it can be moved.
    const disks = parsed.data.disks.map((disk) => ({ ...disk, path: resolve(directory, disk.path) }));
    return new RecordFile(directory, { ...parsed.data, disks });
  }

  get value(): ReplicaRecord {
    return this.#value;
  }

  /** Changes what is in memory only; the next `update` writes it. For what may be lost. */
  remember(change: Partial<ReplicaRecord>): void {
    this.#value = { ...this.#value, ...change };
  }

  async update(change: Partial<ReplicaRecord> | ((value: ReplicaRecord) => Partial<ReplicaRecord>)): Promise<void> {
    await this.#gate.run('record', async () => {
      const changed = typeof change === 'function' ? change(this.#value) : change;
      const next = { ...this.#value, ...changed };
      const disks = next.disks.map((disk) => ({ ...disk, path: this.#named(disk.path) }));
      await writeAtomic(this.#path, `${JSON.stringify({ ...next, disks }, undefined, 2)}\n`);
      this.#value = { ...this.#value, ...changed };
    });
  }

  #named(path: string): string {
    const inside = relative(this.#directory, path);
    return inside.startsWith('..') || isAbsolute(inside) ? path : inside;
  }
}
