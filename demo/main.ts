/** `npm run demo`: the main job of Understudy, whole, on two isolated hosts of this machine. See `options.ts`. */
import { writeFileSync } from 'node:fs';
import { Lab } from '../lab/hosts/lab.ts';
import { asFailure } from '../src/model/failure.ts';
import { HELP, parseOptions, type Options } from './options.ts';
import { play } from './play.ts';
import { isGood, newReport } from './report.ts';
import { INTERVAL_MS, Scene } from './scene.ts';
import { Screen } from './screen.ts';
import { tellHowToLookAround, tellSummary } from './summary.ts';
import { tellFailure, tellLastWords } from './trouble.ts';

/** Whose labs these are, for `--clean`. */
const NAME = 'demo';

const screen = new Screen();
let interrupted = false;
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) {
  // The lab removes itself then, and ends this process: all there is to do here is to keep quiet.
  process.once(signal, () => {
    if (!interrupted) screen.line('\nInterrupted: removing both hosts.');
    interrupted = true;
  });
}

async function clean(): Promise<boolean> {
  const removed = await Lab.clean({ kept: true, name: NAME });
  for (const line of removed) screen.line(`removed ${line}`);
  if (removed.length === 0) screen.line('Nothing was left.');
  return true;
}

async function demo(options: Options): Promise<boolean> {
  const report = newReport(options.seed, options.until, INTERVAL_MS);
  const began = performance.now();
  let lab: Lab | undefined;
  let scene: Scene | undefined;
  try {
    screen.line(`Understudy: two hosts, one guest, a cycle every ${INTERVAL_MS / 1000} s. Seed ${options.seed}.`);
    lab = await Lab.create({ name: NAME, hosts: ['a', 'b'] });
    scene = new Scene(lab, options, screen, report);
    await play(scene);
  } catch (error) {
    if (interrupted) return false;
    report.failure = asFailure(error).toJSON();
    tellFailure(screen, error);
  }
  try {
    await scene?.close();
  } catch (error) {
    if (interrupted) return false;
    report.failure ??= asFailure(error).toJSON();
    tellFailure(screen, error);
  }
  report.cycles = scene?.cycles.cycles ?? [];
  report.durationMs = performance.now() - began;
  if (!isGood(report) && scene !== undefined) tellLastWords(screen, scene);
  tellSummary(screen, report);
  if (options.json !== undefined) writeFileSync(options.json, `${JSON.stringify(report, undefined, 2)}\n`);
  if (options.keep && lab !== undefined && scene !== undefined) {
    lab.keep();
    tellHowToLookAround(screen, scene);
  } else await lab?.dispose();
  return isGood(report);
}

async function main(): Promise<boolean> {
  const options = parseOptions(process.argv.slice(2));
  if (options.help) screen.line(HELP);
  if (options.help) return true;
  return options.clean ? await clean() : await demo(options);
}

let good = false;
try {
  good = await main();
} catch (error) {
  if (!interrupted) tellFailure(screen, error);
}
// What is kept would hold this process; an interrupt ends it by its signal.
if (!interrupted) process.exit(good ? 0 : 1);
