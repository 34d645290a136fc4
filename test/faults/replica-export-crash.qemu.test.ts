import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { exportPoint } from '../../src/failover/export.ts';
import { Journal } from '../../src/journal/journal.ts';
import { Replica } from '../../src/replica/replica.ts';
import { IN_A_PLAN } from './crash-points.ts';
import { PLAN_ID } from './replica-export.ts';
import { newPlace, newReplica, send, type Place } from './replica-host.ts';
import { newSeed, TestPrimary } from './replica-primary.ts';

const { kind, steps } = exportPoint;
const ofSteps = (places: readonly string[]) => steps.flatMap(({ name }) => places.map((at) => `${kind}:${name}:${at}`));
const FORWARD = [...IN_A_PLAN.forward.map((at) => `${kind}:${at}`), ...ofSteps(IN_A_PLAN.ofStep)];
const BACKWARD = [...IN_A_PLAN.back.map((at) => `${kind}:${at}`), ...ofSteps(IN_A_PLAN.ofStepBack)];

/** Some of the places; `CRASHES=all` takes all. */
const SAMPLE = process.env['CRASHES'] === 'all' ? Number.POSITIVE_INFINITY : 4;

/** Runs the plan, or goes on with it; dies at `crash`. */
async function exporting({ directory }: Place, file: string, sequence: number, crash?: string): Promise<void> {
  const script = join(import.meta.dirname, 'replica-export.ts');
  const child = spawn(process.execPath, [script, directory, file, String(sequence), 'vda'], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: { ...process.env, DIES: 'both', ...(crash === undefined ? {} : { UNDERSTUDY_CRASH: crash }) },
  });
  const [code, signal] = (await once(child, 'exit')) as [number | null, string | null];
  if (crash === undefined) assert.equal(code, 0);
  else assert.equal(signal, 'SIGKILL', `${crash} was never reached`);
}

void test('killed at any step of an export: it is done again, or nothing of it stays', async (t) => {
  const seed = newSeed();
  t.diagnostic(`SEED=${seed}`);
  const primary = new TestPrimary(seed);
  const place = await newPlace();
  const options = { ...place.options, directory: join(place.directory, 'replicas', primary.id) };
  try {
    const replica = await Replica.create(options, newReplica(primary));
    for (let i = 0; i < 3; i++) await send(replica, await primary.log());
    await replica.drained();
    await replica.close();
    const free = join(place.directory, 'vda.raw');
    const taken = join(place.directory, 'taken'); // by somebody else, since the export began
    await writeFile(taken, 'theirs');
    const cases = [
      ...FORWARD.map((crash) => [crash, free] as const),
      ...BACKWARD.map((crash) => [crash, taken] as const),
    ];
    for (let i = 0; i < SAMPLE && cases.length > 0; i++) {
      const [[crash, file]] = cases.splice(primary.between(0, cases.length - 1), 1) as [readonly [string, string]];
      t.diagnostic(crash);
      await exporting(place, file, 1, crash);
      await exporting(place, file, 1);
      const plan = (await Journal.open(join(place.directory, 'journal'))).plan(PLAN_ID);
      assert.equal(plan?.state, file === free ? 'done' : 'undone', crash);
      const wanted = file === free ? primary.states.get(1)![0]! : Buffer.from('theirs');
      assert.ok((await readFile(file)).equals(wanted), crash);
      await rm(free, { force: true });
      const left = (await readdir(place.directory)).filter(
        (name) => name.startsWith('vda.raw') || name.startsWith('taken'),
      );
      assert.deepEqual(left, ['taken'], crash);
      await rm(join(place.directory, 'journal'), { recursive: true });
    }
  } finally {
    await place.clear();
  }
});
