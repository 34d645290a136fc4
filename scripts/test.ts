/**
 * Runs the tests, suite by suite, says what it ran and skipped, and ends with one line of totals.
 *   test.ts [SUITE…] [FILE…]      without arguments: every suite but those that take their time
 */
import { existsSync, globSync } from 'node:fs';
import { relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Lab } from '../lab/hosts/lab.ts';
import { type SuiteResult, runSuite } from './suite.ts';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
process.chdir(ROOT);

const SUITES = {
  /** Nothing but Node. */
  unit: {
    patterns: [
      'src/**/*.test.ts',
      'lab/**/*.test.ts',
      'bench/**/*.test.ts',
      'scripts/**/*.test.ts',
      'test/*.test.ts',
      'test/conformance/*.test.ts',
      'test/model/*.test.ts',
    ],
    concurrency: 2,
  },
  /** QEMU's tools: qemu-storage-daemon, qemu-img. */
  qemu: { patterns: ['{src,lab,test,bench}/**/*.qemu.test.ts'], concurrency: 2 },
  /** Isolated hosts, libvirt, real guests. */
  guests: { patterns: ['{src,lab,test}/**/*.libvirt.test.ts', 'test/system/*.test.ts'], concurrency: 1 },
  /** Kills, cuts, full disks. */
  faults: { patterns: ['test/faults/*.test.ts'], concurrency: 2 },
  /** Kills at crash points, one after the other, and a slice of the campaign of faults: `npm run test:crashes`. */
  crashes: { patterns: ['test/faults/*-crash.qemu.test.ts'], concurrency: 2 },
  /** More of real guests: `npm run test:guests`. */
  long: { patterns: ['test/guests/*.test.ts'], concurrency: 1 },
} as const;
type SuiteName = keyof typeof SUITES;
const NAMES = Object.keys(SUITES) as SuiteName[];
/** They take their time, and run when they are asked for; CI asks for them. */
const APART: ReadonlySet<SuiteName> = new Set(['crashes', 'long']);

/** A file belongs to one suite: its place under test/ decides first, then its name. */
function suiteOf(file: string): SuiteName {
  if (file.startsWith('test/faults/')) return file.endsWith('-crash.qemu.test.ts') ? 'crashes' : 'faults';
  if (file.startsWith('test/guests/')) return 'long';
  if (file.startsWith('test/system/') || file.endsWith('.libvirt.test.ts')) return 'guests';
  return file.endsWith('.qemu.test.ts') ? 'qemu' : 'unit';
}

function filesOf(name: SuiteName): string[] {
  return globSync([...SUITES[name].patterns])
    .filter((file) => suiteOf(file) === name)
    .toSorted();
}

/** Chosen files by suite; a suite that was named has all of its files. */
function choose(args: readonly string[]): Map<SuiteName, string[]> {
  const chosen = new Map<SuiteName, string[]>();
  for (const arg of args.length === 0 ? NAMES.filter((name) => !APART.has(name)) : args) {
    const name = NAMES.find((candidate) => candidate === arg);
    if (name !== undefined) {
      chosen.set(name, filesOf(name));
      continue;
    }
    const file = relative(ROOT, arg);
    if (!existsSync(file)) {
      console.error(`No suite and no file: ${arg}. Suites: ${NAMES.join(', ')}.`);
      process.exit(2);
    }
    const suite = suiteOf(file);
    chosen.set(suite, [...(chosen.get(suite) ?? []), file]);
  }
  return new Map(NAMES.filter((name) => chosen.has(name)).map((name) => [name, chosen.get(name)!]));
}

function row(cells: readonly (string | number)[]): string {
  const [first, ...others] = cells;
  return String(first).padEnd(10) + others.map((cell) => String(cell).padStart(9)).join('');
}

const interrupt = new AbortController();
let interruptedBy: NodeJS.Signals | undefined;
for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  process.on(signal, () => {
    interruptedBy ??= signal;
    interrupt.abort();
  });
}

const chosen = choose(process.argv.slice(2));
if (chosen.has('guests') || chosen.has('long')) {
  for (const left of await Lab.clean()) console.log(`removed what a killed run left: ${left}`);
}
const results: SuiteResult[] = [];
for (const [name, files] of chosen) {
  if (interrupt.signal.aborted) break;
  results.push(await runSuite(name, files, { concurrency: SUITES[name].concurrency, signal: interrupt.signal }));
}

const sum = (count: (result: SuiteResult) => number) => results.reduce((total, result) => total + count(result), 0);
const seconds = sum((result) => result.seconds);
console.log(`\n${row(['suite', 'passed', 'failed', 'skipped', 'seconds', 'share'])}`);
for (const result of results) {
  const { name, passed, failed, skipped } = result;
  const share = `${Math.round((100 * result.seconds) / (seconds || 1))} %`;
  console.log(row([name, passed, failed.length, skipped.length, result.seconds.toFixed(1), share]));
}
for (const { failed } of results) for (const test of failed) console.log(`failed: ${test}`);
for (const { skipped } of results) for (const test of skipped) console.log(`skipped: ${test}`);
if (interruptedBy !== undefined) console.log(`interrupted by ${interruptedBy}`);
console.log(
  `${sum(({ passed }) => passed)} passed, ${sum(({ failed }) => failed.length)} failed, ${sum(({ skipped }) => skipped.length)} skipped`,
);
process.exitCode = interruptedBy !== undefined || sum(({ failed }) => failed.length) > 0 ? 1 : 0;
