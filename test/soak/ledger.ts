/** LEDGER.md: what campaigns found, one row for each that was run. Rows are added, never changed but for what was learnt. */
import { execFileSync } from 'node:child_process';
import { appendFileSync } from 'node:fs';
import { join } from 'node:path';

const LEDGER = join(import.meta.dirname, 'LEDGER.md');

export interface Entry {
  readonly campaign: string;
  readonly seed: number;
  readonly rounds: number;
  readonly violations: number;
  readonly seconds: number;
  readonly found: string;
}

/** The commit that is run; marked where the tree holds changes to it. */
export function commit(): string {
  const git = (...args: string[]) => execFileSync('git', args, { cwd: import.meta.dirname, encoding: 'utf8' }).trim();
  const changed = git('status', '--porcelain', '--untracked-files=no', '--', ':/src') !== '';
  return `${git('rev-parse', '--short', 'HEAD')}${changed ? '+' : ''}`;
}

export function append(at: string, { campaign, seed, rounds, violations, seconds, found }: Entry): void {
  const day = new Date().toISOString().slice(0, 10);
  const cells = [day, at, campaign, seed, rounds, violations, seconds.toFixed(0), found.replaceAll(/[|\n]+/g, ' '), ''];
  appendFileSync(LEDGER, `| ${cells.join(' | ')} |\n`);
}
