/** Everything that can break, broken at random, in two real daemons: every recovery point stays what its VM's disks held. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { z } from 'zod';
import type { Campaign, Outcome, Round } from './campaign.ts';

const MAIN = join(import.meta.dirname, 'faults', 'main.ts');
/** Everything in memory, gone with the namespace; the replicas of one host on a file system that gets full. */
const MOUNT =
  'mount -t tmpfs -o size=2g none "$1" && mkdir "$1/small" && mount -t tmpfs -o size=384m none "$1/small" && ' +
  'shift && exec "$@"';

export interface Extent {
  readonly steps: number;
  readonly relations: number;
  readonly diskMiB: number;
}

const endSchema = z.object({
  rounds: z.number().default(0),
  points: z.number().default(0),
  steps: z.number().default(0),
  violation: z.string().optional(),
});

/** Runs so many steps in a world of their own. */
export async function runFaults(
  { seed, progress, signal }: Pick<Round, 'seed' | 'progress' | 'signal'>,
  { steps, relations, diskMiB }: Extent,
): Promise<Outcome> {
  const directory = mkdtempSync(join(tmpdir(), 'us-w-'));
  const program = [process.execPath, MAIN, directory, ...[seed, steps, relations, diskMiB].map(String)];
  const namespace = ['--mount', '--propagation', 'private', 'sh', '-c', MOUNT, 'sh', directory, ...program];
  const child = spawn('unshare', namespace, { stdio: ['ignore', 'pipe', 'inherit'] });
  const end = (): void => void child.kill('SIGTERM');
  signal.addEventListener('abort', end, { once: true });
  try {
    let last = '{}';
    for await (const line of createInterface(child.stdout)) {
      if (line.startsWith('{')) last = line;
      else progress(line);
    }
    if (child.exitCode === null && child.signalCode === null) await once(child, 'exit');
    if (child.exitCode !== 0 && !signal.aborted && !last.includes('"violation"')) {
      throw new Error(`the world ended by itself (${child.exitCode ?? child.signalCode}); it had seen ${last}`);
    }
    const { violation, points, rounds, steps: done } = endSchema.parse(JSON.parse(last));
    const found = `${done} steps, ${points} points compared${signal.aborted ? ', then it was ended' : ''}`;
    return { rounds, found, ...(violation === undefined ? {} : { violation }) };
  } finally {
    signal.removeEventListener('abort', end);
    rmdirSync(directory);
  }
}

export const faults: Campaign = {
  name: 'faults',
  about: 'kill -9, crash points, cut and spoilt links, a full disk, failovers: two daemons, every point compared',
  round: (round) => runFaults(round, { steps: 25, relations: 6, diskMiB: 24 }),
};
