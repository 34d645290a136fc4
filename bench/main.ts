/** `npm run bench`: see `options.ts`. */
import { writeFileSync } from 'node:fs';
import { resolve } from 'node:path';
import { asFailure } from '../src/model/failure.ts';
import { VERSION } from '../src/lib/version.ts';
import { Corpus, GIB } from './images/corpus.ts';
import { Noise } from './measure/noise.ts';
import { HELP, parseOptions } from './options.ts';
import type { Bench } from './part.ts';
import { PARTS } from './parts.ts';
import { asJson, asText, type PartResult, type Report } from './report.ts';
import { Place } from './rig/place.ts';

const SHORT_ROUNDS = 3;
const FULL_ROUNDS = 5;
const DISK_BYTES = 4 * GIB;
const DATA_BYTES = 1.6 * GIB;

async function main(): Promise<boolean> {
  const options = parseOptions(
    process.argv.slice(2),
    PARTS.map(({ name }) => name),
  );
  if (options.help) {
    console.log(HELP + PARTS.map(({ name, title }) => `  ${name.padEnd(14)} ${title}`).join('\n'));
    return true;
  }
  const { full, json } = options;
  const directory = resolve(options.directory);
  const rounds = options.rounds ?? (full ? FULL_ROUNDS : SHORT_ROUNDS);
  const noise = new Noise();
  const began = new Date().toISOString();
  const place = new Place(directory);
  const results: PartResult[] = [];
  try {
    const corpus = await Corpus.open(directory, DISK_BYTES, DATA_BYTES);
    for (const part of PARTS.filter(({ name }) => options.parts.includes(name))) {
      noise.calibrate();
      const say = (line: string) => console.error(`${part.name}: ${line}`);
      const bench: Bench = { place, images: directory, corpus, full, rounds, say };
      const started = performance.now();
      let rows: PartResult['rows'] = [];
      let failure: string | null = null;
      try {
        rows = await part.run(bench);
      } catch (error) {
        failure = asFailure(error).message;
        console.error(error);
      }
      results.push({
        part: part.name,
        title: part.title,
        seconds: (performance.now() - started) / 1000,
        rows,
        failure,
      });
    }
    corpus.close();
    const form = full ? 'full' : 'short';
    const corpusBytes = corpus.dataBytes;
    const report: Report = { version: VERSION, began, form, rounds, corpusBytes, noise: noise.end(), parts: results };
    console.log(asText(report));
    if (json !== undefined) writeFileSync(json, asJson(report));
  } finally {
    await place.close();
  }
  return results.every(({ failure }) => failure === null);
}

try {
  if (!(await main())) process.exitCode = 1;
} catch (error) {
  const { message, hint } = asFailure(error);
  console.error(`bench: ${message}\nhint: ${hint}`);
  process.exitCode = 1;
}
