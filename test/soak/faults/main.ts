/**
 * A campaign of faults in a mount namespace of its own. Usage: main.ts DIRECTORY SEED STEPS RELATIONS DISK_MIB. DIRECTORY is a file
 * system of its own, and so is `small` in it. After each step, and at a violation, a line of JSON says what it has looked at. With KEEP=1 what was there at a
 * violation stays in `.cache/faults-SEED`.
 */
import { cpSync } from 'node:fs';
import { join } from 'node:path';
import { seeded } from '../../../bench/images/random.ts';
import { onInterrupt } from '../../../lab/hosts/interrupt.ts';
import { step } from './steps.ts';
import { World } from './world.ts';

const [directory = '', ...numbers] = process.argv.slice(2);
const [seed = 0, steps = 1, relations = 4, diskMiB = 32] = numbers.map(Number);
const ROOT = join(import.meta.dirname, '../../..');

const started = performance.now();
const say = (text: string): void => {
  console.log(`${((performance.now() - started) / 1000).toFixed(1).padStart(7)} s  ${text}`);
};

let number = 0;
let doing = 'begins';
let rounds = 0;
let points = 0;
let world: World | undefined;
onInterrupt(async () => await world?.close());
try {
  world = await World.open({ directory, random: seeded(seed), relations, diskMiB, say });
  say(`seed ${seed}: ${relations} relationships are replicated`);
  while (number < steps) {
    number++;
    const report = await step(world, (what) => say(`step ${number}: ${(doing = what)}`));
    rounds += report.rounds;
    points += report.points;
    say(`  well: ${report.points} points compared`);
    console.log(JSON.stringify({ rounds, points, steps: number }));
  }
} catch (error) {
  console.log(`seed ${seed}, step ${number}: ${doing}`);
  console.log(error);
  console.log(world?.lastWords() ?? '');
  if (process.env['KEEP'] === '1') cpSync(directory, join(ROOT, '.cache', `faults-${seed}`), { recursive: true });
  console.log(
    JSON.stringify({ rounds, points, steps: number, violation: `step ${number}, ${doing}: ${String(error)}` }),
  );
  process.exitCode = 1;
} finally {
  await world?.close();
}
