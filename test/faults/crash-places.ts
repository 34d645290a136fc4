/**
 * Where the plans of failovers are killed, and what is killed there. A run takes some of the places, by its seed; `CRASHES=all` takes all.
 */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import type { TestContext } from 'node:test';
import type { PlanDefinition } from '../../src/journal/runner.ts';
import { startReplication } from './primary-world.ts';
import type { ReplicatedVm } from './replicated-vm.ts';
import type { Task } from './two-hosts-process.ts';
import { other, PLANS, type HostName } from './two-hosts.ts';

export interface Place {
  readonly crash: string;
  /** The daemon that was asked dies alone, or the other one, which does its part; or both. */
  readonly dies: 'asked' | 'other' | 'both';
}

const ALL = process.env['CRASHES'] === 'all';

function plan(kind: string): PlanDefinition<never> {
  const found = PLANS.find((candidate) => candidate.kind === kind);
  assert.ok(found !== undefined, kind);
  return found as PlanDefinition<never>;
}

export const forward = (kind: string) => [
  `${kind}:begun`,
  ...plan(kind).steps.flatMap(({ name }) => ['before', 'after', 'written'].map((at) => `${kind}:${name}:${at}`)),
];

/** From the step that fails back to the first. */
export const backward = (kind: string, from: string) => {
  const { steps } = plan(kind);
  const undone = steps.slice(0, steps.findIndex(({ name }) => name === from) + 1);
  return [
    `${kind}:undoing`,
    ...undone.flatMap(({ name }) => ['before', 'after', 'written'].map((at) => `${kind}:${name}:undo-${at}`)),
  ];
};

/** Each with both daemons, and with the one alone that passes it. */
export const places = (points: readonly string[], alone: 'asked' | 'other' = 'asked'): Place[] =>
  points.flatMap((crash) => [
    { crash, dies: alone },
    { crash, dies: 'both' },
  ]);

export const told = (place: Place | undefined) => (place === undefined ? 'nobody' : `${place.crash} of ${place.dies}`);

/** Takes `count` of the places, or all of them. */
export function sample(vm: ReplicatedVm, all: readonly Place[], count: number): Place[] {
  const left = [...all];
  const taken: Place[] = [];
  while (left.length > 0 && (ALL || taken.length < count))
    taken.push(...left.splice(vm.vms.guest.below(left.length), 1));
  return taken;
}

/** The plan of that kind that was begun last ended so. */
export function checkEnd(vm: ReplicatedVm, where: HostName, kind: string, state: 'done' | 'undone'): void {
  const last = vm
    .host(where)
    .services.actions.journal.plans()
    .findLast((candidate) => candidate.kind === kind);
  assert.equal(last?.state, state, JSON.stringify(last));
}

/** Asks `where` for something, which is carried out until somebody dies at a place. */
export async function die(
  vm: ReplicatedVm,
  { crash, dies }: Place,
  where: HostName,
  task: Exclude<Task, { kind: 'replicate' }>,
): Promise<void> {
  if (dies === 'both') await vm.crashAt(crash, task);
  else await vm.crashAloneAt(crash, dies === 'asked' ? where : other(where), task);
}

/** Where the VM runs now, nothing of a replica is left but its disks. */
export async function checkNoPoints(vm: ReplicatedVm, where: HostName): Promise<void> {
  const { replicas, replicaDirectory } = vm.host(where).services;
  assert.equal(replicas.find(vm.id), undefined);
  const left = await readdir(replicaDirectory(vm.id));
  assert.deepEqual(
    left.filter((name) => ['replica.json', 'inbox', 'undo', 'digests'].includes(name)),
    [],
  );
}

/** At the end of a test: daemons and VMs end, and no image has suffered. */
export async function checkImages(vm: ReplicatedVm): Promise<void> {
  const paths = new Set((['a', 'b'] as const).flatMap((name) => vm.record(name).disks.map(({ path }) => path)));
  await vm.hosts.close();
  await vm.vms.checkImages([...paths]);
}

/** A guest that is replicated from host a. */
export async function begin(t: TestContext): Promise<ReplicatedVm> {
  const vm = await startReplication(t, { history: 6 });
  await vm.replicated('a');
  return vm;
}
