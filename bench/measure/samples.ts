/** Contestants take turns on the same disks, so that what else the machine does meets each of them alike. */

/** What one go of a contestant took. */
export interface Sample {
  readonly seconds: number;
  /** CPU seconds of all its processes, both ends. */
  readonly cpuSeconds: number;
  /** Whatever else a part wants to know of the go, by name. */
  readonly figures: Readonly<Record<string, number>>;
}

export interface Contestant {
  readonly name: string;
  /** Not measured: brings the disks to where `go` starts. Rounds count from 0; the warm-up is round -1. */
  prepare(round: number): Promise<void>;
  go(round: number): Promise<Sample>;
}

export interface Summary {
  readonly median: number;
  readonly min: number;
  readonly max: number;
  readonly count: number;
}

/** A B C A B C …, after one round that isn't counted. */
export async function alternate(
  contestants: readonly Contestant[],
  rounds: number,
  say: (line: string) => void,
): Promise<ReadonlyMap<string, readonly Sample[]>> {
  const samples = new Map<string, Sample[]>(contestants.map(({ name }) => [name, []]));
  for (let round = -1; round < rounds; round++) {
    for (const contestant of contestants) {
      await contestant.prepare(round);
      const sample = await contestant.go(round);
      if (round < 0) continue;
      samples.get(contestant.name)!.push(sample);
      say(
        `${round + 1}/${rounds} ${contestant.name}: ${sample.seconds.toFixed(3)} s, CPU ${sample.cpuSeconds.toFixed(2)} s`,
      );
    }
  }
  return samples;
}

/** @param values at least one. */
export function summarize(values: readonly number[]): Summary {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const median = sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  return { median, min: sorted[0]!, max: sorted.at(-1)!, count: sorted.length };
}

/** The p-th percentile (0 to 100) of at least one value: the smallest that at least p % don't exceed. */
export function percentile(values: readonly number[], p: number): number {
  const sorted = values.toSorted((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil((p / 100) * sorted.length) - 1)]!;
}
