/** Rows from samples: the usual comparisons. */
import { summarize, type Sample } from './measure/samples.ts';
import type { Row, Target } from './part.ts';

type Figure = (sample: Sample) => number;
export type Samples = readonly Sample[];

export const seconds: Figure = (sample) => sample.seconds;
export const cpu: Figure = (sample) => sample.cpuSeconds;
export const figure =
  (name: string): Figure =>
  (sample) =>
    sample.figures[name] ?? Number.NaN;

/** How many times as fast as a peer; figures are seconds. */
export function speed(
  what: string,
  ours: { samples: Samples; of?: Figure },
  peer: { name: string; samples: Samples; of?: Figure },
  target?: Target,
): Row {
  const own = summarize(ours.samples.map(ours.of ?? seconds));
  const theirs = summarize(peer.samples.map(peer.of ?? seconds));
  return {
    what,
    unit: 's',
    ours: own,
    peer: { name: peer.name, unit: 's', summary: theirs },
    ratio: theirs.median / own.median,
    ratioOf: 'speed',
    ...(target === undefined ? {} : { target }),
  };
}

/** How much of something, in terms of a peer's, where there is one. */
export function amount(
  what: string,
  unit: string,
  values: readonly number[],
  options: { peer?: { name: string; values: readonly number[] }; target?: Target; note?: string } = {},
): Row {
  const { peer, target, note } = options;
  const ours = summarize(values);
  const theirs = peer === undefined ? undefined : summarize(peer.values);
  return {
    what,
    unit,
    ours,
    ...(peer === undefined ? {} : { peer: { name: peer.name, unit, summary: theirs! } }),
    ...(theirs === undefined ? {} : { ratio: ours.median / theirs.median, ratioOf: 'amount' }),
    ...(target === undefined ? {} : { target }),
    ...(note === undefined ? {} : { note }),
  };
}
