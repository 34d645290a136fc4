/** Two guests replicate for an hour, each to the other's host: nothing that they take grows, and what they have is right. */
import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { sleep } from '../../src/lib/clock.ts';
import { assertByteEqual } from '../system/equality.ts';
import { assertRecordsGood } from '../system/records-inside.ts';
import type { Campaign, Outcome, Round } from './campaign.ts';
import { EVENTS, wentOn } from './guests/events.ts';
import { plot } from './guests/plot.ts';
import { csvOf, judge, panelsOf, takeSample, type Sample } from './guests/quantities.ts';
import { SoakWorld } from './guests/world.ts';
import { commit } from './ledger.ts';

const CACHE = join(import.meta.dirname, '../../.cache');
const DOCS = join(import.meta.dirname, '../../docs');
const SAMPLE_MS = 10_000;
/** Not in step with the cycles: else all of them would see the lag of one moment of a cycle. */
const OUT_OF_STEP_MS = 5000;
const EVENT_MS = 60_000;
const SHORTEST_MINUTES = 5;
/** A shorter one is still warming up, and is only drawn: into .cache. */
const JUDGED_MINUTES = 30;

interface Samples {
  readonly minutes: number[];
  readonly samples: Sample[];
}

interface Watch extends Pick<Round, 'progress'> {
  /** Aborts at the end. */
  readonly signal: AbortSignal;
}

async function takeSamples(world: SoakWorld, kept: Samples, { signal, progress }: Watch): Promise<void> {
  const began = performance.now();
  const elapsed = () => performance.now() - began;
  while (!signal.aborted) {
    const at = elapsed() / 60_000;
    const sample = await takeSample(world);
    kept.minutes.push(at);
    kept.samples.push(sample);
    if (kept.samples.length % 6 === 0) {
      const columns = Object.entries(sample).map(([name, value]) => `${name} ${value.toFixed(1)}`);
      progress(columns.join(' '));
      keep(kept, CACHE);
    }
    const next = kept.samples.length * SAMPLE_MS + Math.random() * OUT_OF_STEP_MS;
    await sleep(Math.max(0, next - elapsed()), signal).catch(() => undefined); // the end
  }
}

/** One event a minute, each kind as often as the others, on one relationship or the other. Gives how many there were. */
async function letThingsHappen(world: SoakWorld, seed: number, { signal, progress }: Watch): Promise<number> {
  for (let happened = 0; ; happened++) {
    await sleep(EVENT_MS, signal).catch(() => undefined); // the end
    if (signal.aborted) return happened;
    const at = seed + happened;
    const event = EVENTS[at % EVENTS.length]!;
    const relation = world.relations[Math.floor(at / EVENTS.length) % world.relations.length]!;
    progress(`${event.name}: ${relation.vm}`);
    try {
      await event.happen(world, relation);
      await wentOn(world);
    } catch (error) {
      throw new Error(`${event.name} of ${relation.vm}`, { cause: error });
    }
  }
}

/** Lets both go on for so long; whichever fails ends the other. */
async function watched(world: SoakWorld, kept: Samples, { seed, minutes, progress }: Round): Promise<number> {
  const end = new AbortController();
  const timer = setTimeout(() => end.abort(), minutes * 60_000);
  const watch = { signal: end.signal, progress };
  const parts = [takeSamples(world, kept, watch), letThingsHappen(world, seed, watch)] as const;
  try {
    const [, happened] = await Promise.all(parts);
    return happened;
  } finally {
    clearTimeout(timer);
    end.abort();
    await Promise.allSettled(parts);
  }
}

/** As numbers, and drawn. */
function keep({ minutes, samples }: Samples, directory: string): void {
  const took = minutes.at(-1)!.toFixed(0);
  const day = new Date().toISOString().slice(0, 10);
  const title = `Two guests, a cycle every 5 s, for ${took} minutes (${commit()}, ${day})`;
  mkdirSync(CACHE, { recursive: true });
  writeFileSync(join(CACHE, 'soak.csv'), csvOf(minutes, samples));
  writeFileSync(join(directory, 'soak.svg'), plot(title, minutes, panelsOf(samples)));
}

export const guests: Campaign = {
  name: 'guests',
  about:
    'two real guests replicate, each to the other host, for all the minutes that there are: nothing they take grows',
  async round(round): Promise<Outcome> {
    const minutes = Math.max(round.minutes, SHORTEST_MINUTES);
    await using world = await SoakWorld.create('soak-guests');
    const kept: Samples = { minutes: [], samples: [] };
    const isJudged = minutes >= JUDGED_MINUTES;
    const events = await watched(world, kept, { ...round, minutes });
    keep(kept, isJudged ? DOCS : CACHE);
    for (const { vm, guest, primary, replica } of world.relations) {
      await assertRecordsGood(guest);
      await assertByteEqual(primary, replica, world.scratch, vm);
    }
    const { grown, flat } = judge(kept.samples);
    const looked = `${minutes.toFixed(0)} minutes, ${kept.samples.length} samples, ${events} events; both sides byte-equal, records good`;
    const found = `${looked}; medians of the middle and the last third: ${[...flat, ...grown].join(', ')}`;
    return {
      rounds: 1,
      found,
      ...(isJudged && grown.length > 0 ? { violation: `it grows: ${grown.join('; ')}` } : {}),
    };
  },
};
