/** A replica's life under strace, and power losses at random moments of it. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ReplicatedDisk } from '../../../src/model/relationship.ts';
import { newReplica } from '../replica-host.ts';
import { seeded, TestPrimary, type MadeLog } from '../replica-primary.ts';
import { losePower } from './losses.ts';
import { checkReplica, type Lived } from './replica-check.ts';
import type { LifePlan } from './replica-life.ts';
import { traced, type Operation } from './trace.ts';

export interface ReplicaLife extends Lived {
  readonly root: string;
  readonly operations: readonly Operation[];
  clear(): Promise<void>;
}

/** Lives a life of `count` logs and keeps all that was written and synced in it. */
export async function replicaLife(seed: number, count: number): Promise<ReplicaLife> {
  const directory = await mkdtemp(join(tmpdir(), 'us-p-'));
  try {
    const root = join(directory, 'host');
    const primary = new TestPrimary(seed);
    const logs: MadeLog[] = [];
    await mkdir(root);
    for (let i = 0; i < count; i++) {
      if (i % 3 === 1) primary.reshape(another(primary));
      logs.push(await primary.log({ changes: primary.between(1, 6), point: i % 5 !== 2 }));
    }
    const files = logs.map((log) => ({ ...log, path: join(directory, `log-${log.sequence}`) }));
    for (const { path, bytes } of files) await writeFile(path, bytes);
    const plan: LifePlan = {
      directory: join(root, 'r'),
      runDirectory: join(directory, 'run'),
      replica: newReplica(primary, {
        disks: primary.shapes.get(0)!,
        history: 2,
        thin: [{ everySeconds: 4, count: 4 }],
      }),
      logs: files.map(({ sequence, logId, path }) => ({ sequence, logId, path })),
      overlays: Object.fromEntries(primary.disks.map(({ target }) => [target, join(root, `${target}.overlay`)])),
    };
    const planPath = join(directory, 'plan.json');
    await writeFile(planPath, JSON.stringify(plan));
    const script = join(import.meta.dirname, 'replica-life.ts');
    const operations = await traced(root, join(directory, 'trace'), script, [planPath]);
    const clear = () => rm(directory, { recursive: true, force: true });
    return { plan, primary, logs, root, operations, clear };
  } catch (error) {
    await rm(directory, { recursive: true, force: true });
    throw error;
  }
}

/** All but one disk become longer, that one shorter; once there is one more. */
function another(primary: TestPrimary): ReplicatedDisk[] {
  const shorter = primary.between(0, primary.disks.length - 1);
  const disks = primary.disks.map(({ target, size }, i) => ({
    target,
    size: i === shorter ? 512 * primary.between(50, size / 512 - 1) : size + 512 * primary.between(1, 400),
  }));
  return disks.length === 3 ? disks : [...disks, { target: 'vdc', size: 70_144 }];
}

/** Throws at the first loss after which a promise is broken. */
export async function loseReplica(
  life: ReplicaLife,
  options: { seed: number; losses: number; ignored?: (path: string) => boolean },
): Promise<void> {
  const { root, operations } = life;
  const check = (said: readonly string[]) => checkReplica(life, said);
  await losePower({ root, operations, check, ...options, random: seeded(options.seed) });
}

/** Syncs without which a promise would be broken. */
export const RESTS_ON: Readonly<Record<string, (path: string) => boolean>> = {
  'what a received log holds': (path) => path.endsWith('.part'),
  'the name of a received log': (path) => path.endsWith('/inbox'),
  'what an undo log holds': (path) => path.endsWith('.undo.tmp'),
  'the name of an undo log': (path) => path.endsWith('/undo'),
  'what a merged undo log holds': (path) => path.endsWith('.merge'),
  'what the record holds': (path) => path.endsWith('/replica.json.tmp'),
  'the name of the record': (path) => path.endsWith('/r'),
  'what the disks hold': (path) => path.endsWith('.qcow2'),
};
