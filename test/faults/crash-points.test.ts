/** No crash point without a test that kills there: neither a named one, nor those of a plan's steps. */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import {
  IN_A_COPY,
  IN_A_CYCLE,
  IN_A_PLAN,
  IN_A_RESHAPE,
  IN_DROPPING_A_DISK,
  IN_GIVING_UP,
  IN_JOINING,
  IN_MAKING_ANEW,
  IN_LEAVING,
  IN_AN_UNCHANGED_CYCLE,
  IN_MATERIALISING,
  IN_MERGING,
  IN_RECEIVING_AND_APPLYING,
  IN_REMOVING,
  IN_THINNING,
} from './crash-points.ts';
import { exportPoint } from '../../src/failover/export.ts';
import type { PlanDefinition } from '../../src/journal/runner.ts';
import { PLANS } from './two-hosts.ts';

const ROOT = join(import.meta.dirname, '../..');

function inCode(pattern: RegExp): string[] {
  const sources = globSync('src/**/*.ts', { cwd: ROOT }).filter((path) => !path.endsWith('.test.ts'));
  return sources
    .flatMap((path) => [...readFileSync(join(ROOT, path), 'utf8').matchAll(pattern)].map(([, name]) => name!))
    .toSorted();
}

/** What the tests that kill daemons in plans say. */
const planTests = globSync('test/faults/*.ts', { cwd: ROOT })
  .filter((path) => /crash/.test(path))
  .map((path) => readFileSync(join(ROOT, path), 'utf8'))
  .join('\n');

/** Whether a plan of that kind is ever taken back: a step before the final one may fail and says so. */
function isTakenBack({ steps }: PlanDefinition<never>): boolean {
  const final = steps.findIndex((step) => step.final === true);
  return (final === -1 ? steps : steps.slice(0, final)).some(({ onFailure }) => onFailure !== 'stay');
}

void test('a test kills at every crash point that has a name of its own', () => {
  const visited = [
    IN_RECEIVING_AND_APPLYING,
    IN_A_RESHAPE,
    IN_DROPPING_A_DISK,
    IN_GIVING_UP,
    IN_MAKING_ANEW,
    IN_MERGING,
    IN_MATERIALISING,
    IN_REMOVING,
    IN_A_CYCLE,
    IN_THINNING,
    IN_A_COPY,
    IN_JOINING,
    IN_LEAVING,
    IN_AN_UNCHANGED_CYCLE,
  ]
    .flat()
    .toSorted();
  assert.deepEqual(inCode(/crashPoint\('([^']+)'\)/g), visited);
});

void test('crash points of plans are those of the runner, and no others are made up of parts', () => {
  const ends = Object.values(IN_A_PLAN).flat().toSorted();
  const made = inCode(/crashPoint\(([^')][^)]*)\)/g).filter((text) => text !== 'name: string');
  assert.deepEqual(made.map((text) => /:([a-z-]+)`$/.exec(text)?.[1] ?? text).toSorted(), ends);
});

for (const plan of PLANS as unknown as readonly PlanDefinition<never>[]) {
  void test(`a test kills at every step of a ${plan.kind}`, () => {
    const killed = (way: string) => new RegExp(`${way}\\(\\s*'${plan.kind}'`).test(planTests);
    assert.ok(killed('forward'), 'no test kills while it goes forward');
    assert.ok(!isTakenBack(plan) || killed('backward'), 'no test kills while it is taken back');
  });
}

void test('a plan of a new kind is looked at here', () => {
  const kinds = inCode(/PlanDefinition<FailoverServices> = \{\s+kind: '([^']+)'/g);
  assert.deepEqual(kinds, [...PLANS.map(({ kind }) => kind), exportPoint.kind].toSorted());
});
