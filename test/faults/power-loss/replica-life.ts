/**
 * A replica's life in short, to be watched by strace: made, given logs (some in two parts, some of disks of other sizes), its undo logs merged, frozen, a
 * point materialised, taken back, more logs, a higher epoch. It says what it has been promised.
 * Usage: replica-life.ts PLAN, a JSON file with a `LifePlan`.
 */
import { readFileSync, writeSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { Lanes } from '../../../src/lanes/lanes.ts';
import { silentLog } from '../../../src/lib/log.ts';
import type { NewReplica } from '../../../src/replica/create.ts';
import { Replica } from '../../../src/replica/replica.ts';
import { inPieces } from '../replica-primary.ts';

export interface LifeLog {
  readonly sequence: number;
  readonly logId: string;
  readonly path: string;
}

export interface LifePlan {
  readonly directory: string;
  readonly runDirectory: string;
  readonly replica: NewReplica;
  readonly logs: readonly LifeLog[];
  /** Overlays by target. */
  readonly overlays: Readonly<Record<string, string>>;
}

function say(text: string): void {
  writeSync(1, `said ${text}\n`);
}

async function* cutOff(bytes: Buffer): AsyncGenerator<Uint8Array> {
  yield* inPieces(bytes, 8000);
}

async function receive(replica: Replica, log: LifeLog): Promise<void> {
  const bytes = await readFile(log.path);
  if (log.sequence % 3 === 0) {
    await replica.receive(log, 0, cutOff(bytes.subarray(0, bytes.length * 0.7))).catch((error: unknown) => {
      if ((error as { code?: unknown }).code !== 'interrupted') throw error;
    });
    say(`kept ${log.sequence} ${await replica.durableOffset(log)}`);
  }
  const from = await replica.durableOffset(log);
  await replica.receive(log, from, inPieces(bytes.subarray(from)));
  say(`acknowledged ${log.sequence}`);
}

async function live({ directory, runDirectory, replica: made, logs, overlays }: LifePlan): Promise<void> {
  const lanes = new Lanes();
  const replica = await Replica.create({ directory, runDirectory, lanes, log: silentLog() }, made);
  say('created');
  const half = logs.length >> 1;
  for (const log of logs.slice(0, half)) await receive(replica, log);
  await replica.drained();
  await replica.merged();
  await replica.freeze();
  say('frozen');
  const { sequence } = replica.points().at(-1)!;
  await replica.materialise(sequence, new Map(Object.entries(overlays)));
  say(`materialised ${sequence}`);
  say('thawing');
  for (const path of Object.values(overlays)) await rm(path, { force: true }); // of a disk that was added since there is none
  await replica.thaw();
  for (const log of logs.slice(half)) await receive(replica, log);
  await replica.drained();
  await replica.setSettings({ history: 1, thin: [] });
  await replica.merged();
  await replica.raiseEpoch(2);
  say('raised 2');
  await replica.close();
  await lanes.close();
}

if (import.meta.main) await live(JSON.parse(readFileSync(process.argv[2]!, 'utf8')) as LifePlan);
