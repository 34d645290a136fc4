/**
 * Runs campaigns: rounds of random trials, each with a seed of its own, until the minutes are over. Notes each in test/soak/LEDGER.md.
 *   soak.ts [CAMPAIGN…] [--seed S] [--minutes N] [--operations N]      without arguments: every campaign, one round each
 */
import { randomBytes } from 'node:crypto';
import { parseArgs } from 'node:util';
import { append, commit } from '../test/soak/ledger.ts';
import type { Campaign } from '../test/soak/campaign.ts';
import { corruptions } from '../test/soak/corruptions.ts';
import { faults } from '../test/soak/faults.ts';
import { guests } from '../test/soak/guests.ts';
import { kills } from '../test/soak/kills.ts';
import { outage } from '../test/soak/outage.ts';
import { points } from '../test/soak/points.ts';
import { powerLoss } from '../test/soak/power-loss.ts';
import { resync } from '../test/soak/resync.ts';
import { thousandPoints } from '../test/soak/thousand-points.ts';
import { newerWeek, week } from '../test/soak/week.ts';

const CAMPAIGNS: readonly Campaign[] = [
  points,
  powerLoss,
  kills,
  thousandPoints,
  corruptions,
  faults,
  outage,
  resync,
  guests,
  week,
  newerWeek,
];

function usage(problem: string): never {
  console.error(
    `${problem}\nUsage: npm run test:soak -- [CAMPAIGN…] [--seed S] [--minutes N] [--operations N]\nCampaigns:`,
  );
  for (const { name, about } of CAMPAIGNS) console.error(`  ${name.padEnd(16)} ${about}`);
  process.exit(2);
}

function options(): { chosen: readonly Campaign[]; seed: number; minutes: number; operations: number | undefined } {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: { seed: { type: 'string' }, minutes: { type: 'string' }, operations: { type: 'string' } },
  });
  const seed = values.seed === undefined ? randomBytes(4).readUInt32LE() : Number(values.seed);
  const minutes = Number(values.minutes ?? 0);
  if (!Number.isInteger(seed) || seed < 0 || seed >= 2 ** 32) usage(`--seed ${values.seed}: a number below 2^32.`);
  if (!(minutes >= 0)) usage(`--minutes ${values.minutes}: a number.`);
  const operations = values.operations === undefined ? undefined : Number(values.operations);
  if (operations !== undefined && !(operations >= 1)) usage(`--operations ${values.operations}: a number.`);
  const chosen = positionals.map((name) => CAMPAIGNS.find((one) => one.name === name) ?? usage(`No campaign ${name}.`));
  return { chosen: chosen.length === 0 ? CAMPAIGNS : chosen, seed, minutes, operations };
}

/** Runs rounds until its time is over, or something is wrong; says whether all was right. */
async function soak({ name, round }: Campaign, first: number, at: string, milliseconds: number): Promise<boolean> {
  const started = performance.now();
  const { signal } = over;
  const elapsed = () => performance.now() - started;
  let found = '';
  let trials = 0;
  let rounds = 0;
  let violations = 0;
  do {
    const seed = (first + trials++) >>> 0;
    console.log(`── ${name}, trial ${trials}, seed ${seed}`);
    const progress = (text: string) => console.log(`${(elapsed() / 1000).toFixed(0).padStart(6)} s  ${text}`);
    try {
      const counted = operations === undefined ? {} : { operations };
      const outcome = await round({ seed, progress, signal, minutes: milliseconds / 60_000, ...counted });
      found = typeof outcome === 'string' ? outcome : outcome.found;
      rounds += typeof outcome === 'string' ? 1 : outcome.rounds;
      if (typeof outcome === 'object' && outcome.violation !== undefined) throw new Error(outcome.violation);
      console.log(`✓ ${name}, seed ${seed}: ${found}`);
    } catch (error) {
      violations++;
      found = `seed ${seed}: ${error instanceof Error ? error.message : String(error)}`.slice(0, 300);
      console.log(`✗ ${name}, seed ${seed}`, error);
    }
  } while (violations === 0 && elapsed() < milliseconds && operations === undefined && !signal.aborted);
  append(at, { campaign: name, seed: first, rounds, violations, seconds: elapsed() / 1000, found });
  console.log(
    `${name}: ${rounds} rounds from seed ${first} on, ${violations} violations, ${(elapsed() / 1000).toFixed(0)} s`,
  );
  return violations === 0;
}

/** Told to end: the trial under way is the last one, and is noted. Told again, it ends at once. */
const over = new AbortController();
for (const name of ['SIGINT', 'SIGTERM'] as const) process.once(name, () => over.abort());

const { chosen, seed, minutes, operations } = options();
const at = commit();
const results: boolean[] = [];
for (const campaign of chosen) {
  if (over.signal.aborted) break;
  results.push(await soak(campaign, seed, at, (minutes * 60_000) / chosen.length));
}
const bad = results.filter((good) => !good).length;
console.log(
  `${at}, seed ${seed}: ${chosen.length} campaigns, ${bad === 0 ? 'nothing was wrong' : `${bad} found something`}`,
);
process.exitCode = bad === 0 ? 0 : 1;
