/** What the bench can be told on its command line. */
import { parseArgs } from 'node:util';
import { Failure } from '../src/model/failure.ts';

export interface Options {
  readonly parts: readonly string[];
  readonly full: boolean;
  readonly rounds: number | undefined;
  /** File for the results as data. */
  readonly json: string | undefined;
  /** On the storage that is to be measured. */
  readonly directory: string;
  readonly help: boolean;
}

export const HELP = `npm run bench -- [OPTION…]
Measures Understudy beside the tools that it replaces, on the same disks, in turns: ratios inside one run.

  --part NAME    only this part; may be repeated. Parts are listed below
  --full         sizes as in the targets, 5 rounds (about an hour); without it a small form of at most 5 minutes
  --rounds N     so many rounds
  --dir DIR      where disks and logs lie (default: .cache/bench)
  --json FILE    writes the results as data as well (their shape: bench/report.ts)
  --help         this

Exit code: 0 when everything could be measured, whatever came out; 1 when something failed.

Parts:
`;

/** Failure `bad-request` for what isn't an option. @param known names of parts. */
export function parseOptions(argv: readonly string[], known: readonly string[]): Options {
  const { values } = parse(argv);
  const { part = [], full = false, help = false, rounds, json, dir = '.cache/bench' } = values;
  const unknown = part.find((name) => !known.includes(name));
  if (unknown !== undefined) throw wrong(`--part ${unknown}: it is one of ${known.join(', ')}`);
  const count = rounds === undefined ? undefined : Number(rounds);
  if (count !== undefined && !(Number.isInteger(count) && count >= 1 && count <= 1000)) {
    throw wrong(`--rounds ${rounds}: 1 to 1000`);
  }
  return { parts: part.length === 0 ? known : part, full, rounds: count, json, directory: dir, help };
}

function parse(argv: readonly string[]) {
  try {
    return parseArgs({
      args: [...argv],
      options: {
        part: { type: 'string', multiple: true },
        full: { type: 'boolean' },
        rounds: { type: 'string' },
        dir: { type: 'string' },
        json: { type: 'string' },
        help: { type: 'boolean' },
      },
    });
  } catch (error) {
    throw wrong((error as Error).message);
  }
}

function wrong(message: string): Failure {
  return new Failure('bad-request', message, { hint: 'npm run bench -- --help' });
}
