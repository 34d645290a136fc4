/** What is looked at, as columns of numbers, and what of it has to stay as it is. */
import { pointsOf } from '../../system/equality.ts';
import type { Panel } from './plot.ts';
import { flatness, type Bound } from './flatness.ts';
import { sampleHost, type HostSample } from './host-sample.ts';
import type { Relation, SoakWorld } from './world.ts';

interface Quantity {
  readonly name: string;
  readonly title: string;
  /** Empty: a number. */
  readonly unit: string;
  /** Absent: it is drawn only. */
  readonly bound?: Bound;
}

/** A part of what it is, for everything; what is besides is noise, in the quantity's unit. */
const flat = (besides: number): Bound => ({ part: 0.05, besides });

/** Of each host. */
const OF_HOSTS: readonly (Quantity & { readonly name: keyof HostSample })[] = [
  { name: 'rss', title: 'memory of understudyd', unit: 'MiB', bound: flat(8) },
  { name: 'descriptors', title: 'open files of understudyd', unit: '', bound: flat(4) },
  { name: 'threads', title: 'threads of understudyd', unit: '', bound: flat(2) },
  { name: 'processes', title: 'processes of the host', unit: '', bound: flat(2) },
  { name: 'engines', title: "memory of the replica's qemu-storage-daemon", unit: 'MiB', bound: flat(8) },
  { name: 'libvirtd', title: 'memory of libvirtd', unit: 'MiB', bound: flat(8) },
  { name: 'state', title: 'database, journal, digests, outbox', unit: 'MiB', bound: flat(2) },
  // Up and down by what a guest writes in a minute: that much is in a merged undo log.
  { name: 'logs', title: 'inbox and undo logs', unit: 'MiB', bound: flat(12) },
  { name: 'disks', title: "the replica's disks", unit: 'MiB' },
];
/** Of each relationship. */
const OF_RELATIONS: readonly (Quantity & { readonly name: 'lag' | 'points' | 'qemu' })[] = [
  { name: 'lag', title: 'lag', unit: 's', bound: flat(1) },
  { name: 'points', title: 'recovery points', unit: '', bound: flat(1) },
  { name: 'qemu', title: "memory of the guest's QEMU", unit: 'MiB', bound: flat(8) },
];

/** Values by column: `rss.a`, `lag.web`. Absent when it couldn't be told at that moment. */
export type Sample = Readonly<Record<string, number>>;

export async function takeSample({ daemons, relations }: SoakWorld): Promise<Sample> {
  const sample: Record<string, number> = {};
  for (const daemon of daemons) {
    const host = await sampleHost(daemon);
    for (const { name } of OF_HOSTS) sample[`${name}.${daemon.host.name}`] = host[name] as number;
    for (const { vm } of relations) {
      if (host.guests[vm] !== undefined) sample[`qemu.${vm}`] = host.guests[vm];
    }
  }
  for (const relation of relations) {
    sample[`lag.${relation.vm}`] = await lagOf(relation);
    sample[`points.${relation.vm}`] = (await pointsOf(relation.replica, relation.vm)).length;
  }
  return sample;
}

async function lagOf({ vm, primary }: Relation): Promise<number> {
  const views = await primary.client.call('replicationList', {});
  const lagMs = views.find(({ vmName }) => vmName === vm)?.lagMs ?? null;
  if (lagMs === null) throw new Error(`${primary.host.name} can't tell the lag of ${vm}`);
  return lagMs / 1000;
}

const columnsOf = (sample: Sample, { name }: Quantity): string[] =>
  Object.keys(sample).filter((column) => column.split('.')[0] === name);

/** What isn't flat, in words; what is, by its medians. */
export function judge(samples: readonly Sample[]): {
  readonly grown: readonly string[];
  readonly flat: readonly string[];
} {
  const grown: string[] = [];
  const steady: string[] = [];
  for (const quantity of [...OF_HOSTS, ...OF_RELATIONS]) {
    const { bound, title, unit } = quantity;
    if (bound === undefined) continue;
    for (const column of columnsOf(samples[0]!, quantity)) {
      const { middle, last, most, isFlat } = flatness(valuesOf(samples, column), bound);
      const medians = `${column} ${middle.toFixed(1)} → ${last.toFixed(1)}`;
      if (isFlat) steady.push(medians);
      else grown.push(`${title}: ${medians}${unit === '' ? '' : ` ${unit}`}, at most ${most.toFixed(1)}`);
    }
  }
  return { grown, flat: steady };
}

function valuesOf(samples: readonly Sample[], column: string): number[] {
  return samples.map((sample) => {
    const value = sample[column];
    if (value === undefined) throw new Error(`a sample lacks ${column}: its process has gone`);
    return value;
  });
}

export function panelsOf(samples: readonly Sample[]): Panel[] {
  return [...OF_HOSTS, ...OF_RELATIONS].map((quantity) => ({
    title: quantity.title,
    unit: quantity.unit,
    curves: columnsOf(samples[0]!, quantity).map((column) => ({
      name: column.split('.')[1]!,
      values: valuesOf(samples, column),
    })),
  }));
}

export function csvOf(minutes: readonly number[], samples: readonly Sample[]): string {
  const columns = Object.keys(samples[0]!);
  const rows = samples.map((sample, at) => [
    minutes[at]!.toFixed(2),
    ...columns.map((column) => Number(sample[column]?.toFixed(3))),
  ]);
  return [['minutes', ...columns], ...rows].map((row) => `${row.join(',')}\n`).join('');
}
