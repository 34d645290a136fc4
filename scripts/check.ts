/**
 * Format, lint, types, import directions and unit tests: what must hold before a commit. Runs all, then judges.
 * `static`: all but the unit tests, for whoever runs those anyway.
 */
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const FOLDERS = ['src', 'lab', 'test', 'scripts', 'demo', 'bench'].filter((folder) => existsSync(`${ROOT}/${folder}`));

const STEPS: readonly [name: string, program: string, ...args: string[]][] = [
  ['format', 'oxfmt', '--check', ...FOLDERS],
  ['lint', 'oxlint', '--type-aware', '--deny-warnings', ...FOLDERS],
  ['types', 'tsc', '-p', '.'],
  ['import directions', process.execPath, '--test', 'test/layers.test.ts'],
  ['unit tests', process.execPath, 'scripts/test.ts', 'unit'],
];

const isStatic = process.argv[2] === 'static';
const failed: string[] = [];
for (const [name, program, ...args] of isStatic ? STEPS.slice(0, -1) : STEPS) {
  console.log(`── ${name}: ${program === process.execPath ? 'node' : program} ${args.join(' ')}`);
  const { status, error } = spawnSync(program, args, { cwd: ROOT, stdio: 'inherit' });
  if (error) console.error(error.message);
  if (status !== 0) failed.push(name);
}
console.log(failed.length === 0 ? '── all checks passed' : `── failed: ${failed.join(', ')}`);
process.exitCode = failed.length === 0 ? 0 : 1;
