/** A place for replicas of a test: directories, and what it takes to look at their points. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { silentLog } from '../../src/lib/log.ts';
import type { NewReplica } from '../../src/replica/create.ts';
import { Replica, type ReplicaOptions } from '../../src/replica/replica.ts';
import { difference, inPieces, readDisks, type MadeLog, START, type TestPrimary } from './replica-primary.ts';

export interface Place {
  readonly directory: string;
  readonly options: ReplicaOptions;
  clear(): Promise<void>;
}

export async function newPlace(): Promise<Place> {
  const directory = await mkdtemp(join(tmpdir(), 'us-r-'));
  const options = { directory: join(directory, 'r'), runDirectory: join(directory, 'run'), log: silentLog() };
  return { directory, options, clear: () => rm(directory, { recursive: true, force: true }) };
}

export function newReplica(primary: TestPrimary, more: Partial<NewReplica> = {}): NewReplica {
  return {
    id: primary.id,
    vmId: '99999999-2222-4333-8444-555555555555',
    vmName: 'guest',
    definition: '<domain/>',
    epoch: 1,
    intervalSeconds: 5,
    history: 24,
    disks: primary.disks.map(({ target, size }) => ({ target, size })),
    position: START,
    ...more,
  };
}

export async function send(replica: Replica, log: MadeLog): Promise<void> {
  await replica.receive(log, 0, inPieces(log.bytes));
}

/** What a point reads as, compared with what the primary's disks held then; undefined when equal. */
export async function compareWithPoint(
  replica: Replica,
  primary: TestPrimary,
  sequence: number,
): Promise<string | undefined> {
  const view = await replica.openView(sequence);
  try {
    return difference(await readDisks(view.socketPath, primary.disks), primary.states.get(sequence)!);
  } finally {
    await view.close();
  }
}
