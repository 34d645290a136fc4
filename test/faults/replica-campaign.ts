/**
 * A long life of a replica in short: logs arrive, retention policies change, points are given up at the end and in the middle,
 * undo logs are merged, the daemon restarts; all the while random points are read through views and compared with what the
 * primary held. The oracle keeps digests of blocks, so that a thousand points of large disks fit into memory.
 */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { WRITER } from '../../src/deltalog/header.ts';
import { LogWriter } from '../../src/deltalog/writer.ts';
import { digest, DIGEST_SIZE } from '../../src/lib/digest.ts';
import { Failure } from '../../src/model/failure.ts';
import type { RecoveryPoint, ReplicatedDisk } from '../../src/model/relationship.ts';
import { pointsToKeep, type RetentionPolicy } from '../../src/model/retention.ts';
import { DIGEST_BLOCK } from '../../src/protocol/endpoint.ts';
import { checkImage } from '../../src/qemu/image.ts';
import { NbdClient } from '../../src/qemu/nbd/client.ts';
import { Replica } from '../../src/replica/replica.ts';
import type { View } from '../../src/replica/views.ts';
import { digestsOf, newPlace, type Place } from './replica-host.ts';
import { inPieces, seeded, START } from './replica-primary.ts';

export interface CampaignOptions {
  readonly seed: number;
  readonly points: number;
  readonly policies: number;
  readonly disks: readonly ReplicatedDisk[];
  readonly progress?: (text: string) => void;
}

export interface CampaignReport {
  readonly compared: number;
  readonly duringApply: number;
  readonly retired: number;
  readonly merged: number;
  readonly heldViews: number;
}

const ID = '11111111-2222-4333-8444-555555555555';
/** Bytes read at once from a view. */
const READ = 1024 * 1024;

class Campaign {
  readonly #options: CampaignOptions;
  readonly #random: () => number;
  readonly #bytes: readonly Buffer[];
  /** Digests of the disks' blocks as they are now, and at each point by sequence. */
  readonly #now: Buffer[];
  readonly #states = new Map<number, readonly Buffer[]>();
  readonly #place: Place;
  #replica: Replica;
  #position = START;
  #clock = 1_700_000_000_000;
  #held: View[] = [];
  #report = { compared: 0, duringApply: 0, retired: 0, merged: 0, heldViews: 0 };

  constructor(options: CampaignOptions, place: Place, replica: Replica) {
    this.#options = options;
    this.#random = seeded(options.seed);
    this.#bytes = options.disks.map(({ size }) => Buffer.alloc(size));
    this.#now = this.#bytes.map(digestsOf);
    this.#place = place;
    this.#replica = replica;
  }

  async run(): Promise<CampaignReport> {
    const { points, policies, progress } = this.#options;
    const each = Math.ceil(points / policies);
    try {
      await this.#send(200);
      for (let round = 0; round < policies; round++) {
        const policy = this.#policy();
        await this.#replica.setSettings({ history: policy.last, thin: [...policy.thin] });
        for (let i = 0; i < each; i++) await this.#step();
        await this.#settle(policy);
        if (round % 5 === 4) await this.#restart();
        progress?.(`policy ${round + 1} of ${policies}: ${JSON.stringify(this.#report)}`);
      }
      await this.#closeHeld();
      for (const { sequence } of this.#replica.points()) assert.ok(await this.#compare(sequence));
      await this.#checkDisks();
      return this.#report;
    } finally {
      await this.#replica.close();
    }
  }

  /** One more log; while it is applied, a random point is compared. */
  async #step(): Promise<void> {
    const files = (await this.#undoLogs()).length;
    const sent = this.#send(this.#below(8) + 2);
    const points = this.#replica.points();
    const { sequence } = points[this.#below(points.length)]!;
    const compared = this.#compare(sequence);
    await sent;
    if (this.#replica.waiting > 0) this.#report.duringApply++;
    await compared;
    if (this.#held.length < 3 && this.#random() < 0.1) {
      this.#held.push(await this.#replica.openView(this.#replica.points().at(-1)!.sequence));
      this.#report.heldViews++;
    }
    await this.#replica.drained();
    this.#report.merged += Math.max(0, files + 1 - (await this.#undoLogs()).length);
  }

  /** Everything has come to rest: exactly what the policy keeps is there. */
  async #settle(policy: RetentionPolicy): Promise<void> {
    await this.#replica.drained();
    await this.#replica.merged();
    const [latest, ...older] = this.#replica.points();
    const kept = pointsToKeep(older, latest!, policy);
    assert.equal(kept.size, older.length + 1, 'no point stays that no rule keeps');
    this.#report.retired = this.#states.size - kept.size;
    for (const name of await this.#undoLogs()) assert.match(name, /\.undo$/);
    if (this.#random() < 0.5) await this.#closeHeld();
  }

  /** What is shown since long ago, of points that may have been given up since, is still right. */
  async #closeHeld(): Promise<void> {
    for (const view of this.#held) {
      assert.equal(await this.#difference(view), undefined, `view of ${view.sequence} that was held`);
      await view.close();
    }
    this.#held = [];
  }

  async #restart(): Promise<void> {
    await this.#closeHeld();
    const before = this.#replica.points();
    await this.#replica.close();
    this.#replica = await Replica.open(this.#place.options);
    await this.#replica.merged();
    assert.deepEqual(this.#replica.points(), before, 'a restart neither loses points nor brings any back');
  }

  /** False when the point was given up before its view was open. */
  async #compare(sequence: number): Promise<boolean> {
    let view: View;
    try {
      view = await this.#replica.openView(sequence);
    } catch (error) {
      if (error instanceof Failure && error.code === 'not-found') return false;
      throw error;
    }
    try {
      assert.equal(await this.#difference(view), undefined, `point ${sequence}, seed ${this.#options.seed}`);
      this.#report.compared++;
      return true;
    } finally {
      await view.close();
    }
  }

  async #difference({ socketPath, sequence }: View): Promise<string | undefined> {
    const wanted = this.#states.get(sequence)!;
    for (const [disk, { target, size }] of this.#options.disks.entries()) {
      const client = await NbdClient.connect({ socketPath, exportName: target });
      try {
        for (let at = 0; at < size; at += READ) {
          const got = digestsOf(await client.read(at, Math.min(READ, size - at)));
          const from = (at / DIGEST_BLOCK) * DIGEST_SIZE;
          if (!got.equals(wanted[disk]!.subarray(from, from + got.length))) return `${target} differs behind ${at}`;
        }
      } finally {
        await client.close();
      }
    }
    return undefined;
  }

  /** A few points, or many, or only some of each period. */
  #policy(): RetentionPolicy {
    const rule = () => ({ everySeconds: [600, 1800, 3600, 7200, 86_400][this.#below(5)]!, count: 1 + this.#below(12) });
    return { last: this.#below(12), thin: Array.from({ length: this.#below(4) }, rule) };
  }

  /** Changes the disks, and sends the log of it. */
  async #send(changes: number): Promise<void> {
    const sequence = this.#position.sequence + 1;
    const instant = (this.#clock += 1000 * (30 + this.#below(900)));
    const point: RecoveryPoint = { sequence, epoch: 1, instant, confirmed: instant, kind: 'crash-consistent' };
    const logId = randomBytes(16).toString('hex');
    const header = {
      writer: WRITER,
      relationship: ID,
      logId,
      direction: 'forward' as const,
      disks: [...this.#options.disks],
      follows: this.#position,
      sequence,
      epoch: 1,
      point,
      created: instant,
    };
    const path = join(this.#place.directory, `log-${sequence}`);
    const writer = await LogWriter.create(path, header, { compression: 1 });
    for (let i = 0; i < changes; i++) await this.#change(writer);
    const { makes } = await writer.finish({ durable: false });
    this.#position = makes;
    this.#states.set(
      sequence,
      this.#now.map((digests) => Buffer.from(digests)),
    );
    const bytes = await readFile(path);
    await rm(path);
    await this.#replica.receive({ sequence, logId }, 0, inPieces(bytes, 1024 * 1024));
  }

  async #change(writer: LogWriter): Promise<void> {
    const disk = this.#below(this.#bytes.length);
    const bytes = this.#bytes[disk]!;
    const aligned = this.#random() < 0.7;
    const unit = aligned ? DIGEST_BLOCK : 1;
    // Mostly where others wrote before: points share blocks.
    const span = this.#random() < 0.6 ? Math.ceil(bytes.length / 8) : bytes.length;
    const offset = Math.floor(this.#below(span) / unit) * unit;
    const wanted = aligned ? (1 + this.#below(16)) * DIGEST_BLOCK : 1 + this.#below(20_000);
    const length = Math.min(wanted, bytes.length - offset);
    if (this.#random() < 0.25) {
      // A trim may be long.
      const run = Math.min(length * (1 + this.#below(4)), bytes.length - offset);
      bytes.fill(0, offset, offset + run);
      await writer.zero(disk, offset, run);
      this.#digest(disk, offset, run);
      return;
    }
    const data = this.#random() < 0.4 ? randomBytes(length) : Buffer.alloc(length, `${this.#clock} ${offset} `);
    data.copy(bytes, offset);
    await writer.data(disk, offset, data);
    this.#digest(disk, offset, length);
  }

  #digest(disk: number, offset: number, length: number): void {
    const bytes = this.#bytes[disk]!;
    for (let block = Math.floor(offset / DIGEST_BLOCK); block * DIGEST_BLOCK < offset + length; block++) {
      const content = bytes.subarray(block * DIGEST_BLOCK, (block + 1) * DIGEST_BLOCK);
      digest(content).copy(this.#now[disk]!, block * DIGEST_SIZE);
    }
  }

  async #checkDisks(): Promise<void> {
    for (const [disk, { target }] of this.#options.disks.entries()) {
      const count = this.#now[disk]!.length / DIGEST_SIZE;
      const got = Buffer.from(await this.#replica.questions.digests({ target, from: 0, count }));
      assert.ok(got.equals(this.#now[disk]!), `digests of ${target}`);
    }
    await this.#replica.close();
    for (const { target } of this.#options.disks) {
      const { corruptions } = await checkImage(join(this.#place.options.directory, 'disks', `${target}.qcow2`));
      assert.equal(corruptions, 0);
    }
  }

  async #undoLogs(): Promise<string[]> {
    return await readdir(join(this.#place.options.directory, 'undo'));
  }

  #below(limit: number): number {
    return Math.floor(this.#random() * limit);
  }
}

/** Runs it; throws at the first byte that is wrong. */
export async function replicaCampaign(options: CampaignOptions): Promise<CampaignReport> {
  const place = await newPlace();
  try {
    const replica = await Replica.create(place.options, {
      id: ID,
      vmId: '99999999-2222-4333-8444-555555555555',
      vmName: 'guest',
      definition: '<domain/>',
      epoch: 1,
      intervalSeconds: 5,
      history: 10,
      disks: options.disks.map(({ target, size }) => ({ target, size })),
      position: START,
    });
    return await new Campaign(options, place, replica).run();
  } finally {
    await place.clear();
  }
}
