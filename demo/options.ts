/** What the demo can be told on its command line. */
import { parseArgs } from 'node:util';
import { Failure } from '../src/model/failure.ts';
import { newSeed } from './seed.ts';

export const ENDS = ['cycles', 'test', 'failover', 'home'] as const;
export type End = (typeof ENDS)[number];

export interface Options {
  readonly until: End;
  /** File that the report is written to. */
  readonly json: string | undefined;
  readonly keep: boolean;
  readonly clean: boolean;
  readonly help: boolean;
  readonly seed: number;
}

export const HELP = `npm run demo -- [OPTION…]
Two isolated hosts on this machine, a real guest, its replication, the loss of a host, and the way home.

  --until cycles     stop after the initial copy and some cycles
          test       … after the test failover
          failover   … after the unplanned failover
          home       … after reversal and planned failover home (default)
  --json FILE        write the results as data as well (their shape: demo/report.ts)
  --seed N           repeat what was random: when host A is killed, what fills the disks
  --keep             leave everything running at the end, and say how to look around
  --clean            remove what a killed or kept demo left, and do nothing else
  --help             this

Needs root. Exit code: 0 when every check held, 1 when one didn't or something failed.`;

/** Failure `bad-request` for what isn't an option. */
export function parseOptions(argv: readonly string[]): Options {
  const { json, keep, clean, help, ...values } = parse(argv);
  const until = ENDS.find((end) => end === (values.until ?? 'home'));
  if (until === undefined) throw wrong(`--until ${values.until}: it is one of ${ENDS.join(', ')}`);
  const seed = values.seed === undefined ? newSeed() : Number(values.seed);
  if (!Number.isInteger(seed) || seed < 0 || seed > 0xffff_ffff) throw wrong(`--seed ${values.seed}: 0 to 4294967295`);
  return { until, json, keep: keep ?? false, clean: clean ?? false, help: help ?? false, seed };
}

function parse(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      options: {
        until: { type: 'string' },
        json: { type: 'string' },
        seed: { type: 'string' },
        keep: { type: 'boolean' },
        clean: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    }).values;
  } catch (error) {
    throw wrong(error instanceof Error ? error.message : String(error));
  }
}

const wrong = (message: string) => new Failure('bad-request', message, { hint: 'See `npm run demo -- --help`.' });
