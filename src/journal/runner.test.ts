import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import fc from 'fast-check';
import { Failure } from '../model/failure.ts';
import { checkJournal, describePlan } from './checker.ts';
import { Journal } from './journal.ts';
import type { Plan } from './plan.ts';
import { cancelPlan, runPlan, type PlanDefinition, type PlanStep } from './runner.ts';

let root: string;
let directories = 0;
const fresh = () => join(root, `journal-${directories++}`);
const fails = (code: string, message: RegExp) => (error: unknown) =>
  error instanceof Failure && error.code === code && message.test(error.message);

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'understudy-plan-'));
});
after(async () => {
  await rm(root, { recursive: true });
});

const nothing = async () => undefined;
const plain = (...names: string[]): PlanDefinition<undefined> => ({
  kind: 'plain',
  steps: names.map((name) => ({ name, run: nothing })),
});

/** How a step of the property test behaves: how often it fails (half done), and its undo, before they succeed. */
interface Behaviour {
  readonly failures: number;
  readonly undoFailures: number;
  readonly onFailure: 'undo' | 'stay';
  readonly final: boolean;
}

const behaviour: fc.Arbitrary<Behaviour> = fc.record({
  failures: fc.nat(2),
  undoFailures: fc.nat(2),
  onFailure: fc.constantFrom('undo', 'stay'),
  final: fc.boolean(),
});

/** Steps that push and pop their number, with failures as said. */
function stack(behaviours: readonly Behaviour[], world: number[]): PlanDefinition<undefined> {
  const steps = behaviours.map(({ failures, undoFailures, onFailure, final }, index): PlanStep<undefined> => {
    let left = failures;
    let undoLeft = undoFailures;
    return {
      name: `step-${index}`,
      onFailure: index % 2 === 0 ? onFailure : (failure) => (failure.code === 'unreachable' ? onFailure : 'stay'),
      final,
      async run() {
        if (!world.includes(index)) {
          assert.equal(world.length, index, 'steps run in their order');
          world.push(index);
        }
        if (left-- > 0) throw new Failure('unreachable', `step ${index} failed half done`);
      },
      async undo() {
        if (undoLeft-- > 0) throw new Failure('timeout', `undo ${index} failed`);
        if (!world.includes(index)) return;
        assert.equal(world.pop(), index, 'undone in reverse order');
      },
    };
  });
  return { kind: 'stack', steps };
}

/** Index of the step at which such a plan turns back; undefined when it comes through. */
function turningPoint(behaviours: readonly Behaviour[]): number | undefined {
  for (const [index, { failures, onFailure, final }] of behaviours.entries()) {
    if (final) return undefined;
    if (failures > 0 && onFailure === 'undo') return index;
  }
  return undefined;
}

describe('a plan', () => {
  test('with steps that fail at random ends done or undone, each effect there once or not at all', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(behaviour, { minLength: 1, maxLength: 4 }),
        fc.boolean(),
        async (behaviours, reopen) => {
          const directory = fresh();
          const world: number[] = [];
          const definition = stack(behaviours, world);
          let journal = await Journal.open(directory);
          let plan: Plan = await journal.begin(definition, { relationship: 'r', args: {} });
          for (let tries = 0; journal.pending().length > 0; tries++) {
            assert.ok(tries < 30, 'it comes to an end');
            if (reopen) journal = await Journal.open(directory);
            plan = await runPlan(journal, definition, plan, undefined).catch(() => journal.plan(plan.id)!);
          }
          const turned = turningPoint(behaviours);
          assert.equal(plan.state, turned === undefined ? 'done' : 'undone');
          assert.deepEqual(world, turned === undefined ? behaviours.map((_, index) => index) : []);
          assert.equal(plan.failure?.message, turned === undefined ? undefined : `step ${turned} failed half done`);
        },
      ),
      { numRuns: 60 },
    );
  });

  test('is durable before it begins, and holds its relationship until it ends', async () => {
    const journal = await Journal.open(fresh(), () => Date.UTC(2030, 0, 1));
    const plan = await journal.begin(plain('a'), { relationship: 'r', args: { start: true } });
    assert.deepEqual((await Journal.open(journal.directory)).pending(), [plan]);
    const request = { relationship: 'r', args: {} };
    await assert.rejects(journal.begin(plain('b'), request), fails('busy', /plain .*since 2030-01-01T00:00:00.000Z/));
    await journal.begin(plain('b'), { relationship: 'other', args: {} });
    await runPlan(journal, plain('a'), plan, undefined);
    assert.equal((await journal.begin(plain('b'), request)).state, 'running');
  });

  test('of which two are begun at once is begun once', async () => {
    const journal = await Journal.open(fresh());
    const begin = async () => await journal.begin(plain('a'), { relationship: 'r', args: {} });
    const results = await Promise.allSettled([begin(), begin()]);
    assert.deepEqual(results.map(({ status }) => status).toSorted(), ['fulfilled', 'rejected']);
  });

  test('begun again under its id is the same plan, also after its end', async () => {
    const journal = await Journal.open(fresh());
    let runs = 0;
    const definition = { kind: 'once', steps: [{ name: 'a', run: async () => void runs++ }] };
    const request = { relationship: 'r', args: {}, id: 'b9a6a0b0-7a57-4c88-8f0d-7a3a2f0f1c11' };
    for (let i = 0; i < 3; i++) {
      const [one, two] = await Promise.all(
        [0, 1].map(async () => await runPlan(journal, definition, await journal.begin(definition, request), undefined)),
      );
      assert.equal(one?.state, 'done');
      assert.deepEqual(one, two);
    }
    assert.equal(runs, 1);
  });

  test('that was undone says why again, after a restart too', async () => {
    const directory = fresh();
    const steps = [{ name: 'a', run: async () => await Promise.reject(new Failure('no-space', 'disk full')) }];
    const definition = { kind: 'undone', steps };
    const journal = await Journal.open(directory);
    const plan = await journal.begin(definition, { relationship: 'r', args: {} });
    await assert.rejects(runPlan(journal, definition, plan, undefined), fails('no-space', /disk full/));
    const again = await Journal.open(directory);
    await assert.rejects(runPlan(again, definition, plan, undefined), fails('no-space', /disk full/));
  });

  test('tells its observers each state', async () => {
    const journal = await Journal.open(fresh());
    const seen: string[] = [];
    const off = journal.onProgress(({ state, steps }) =>
      seen.push(`${state} ${steps.filter(({ done }) => done).length}/${steps.length}`),
    );
    const plan = await journal.begin(plain('a', 'b'), { relationship: 'r', args: {} });
    await runPlan(journal, plain('a', 'b'), plan, undefined);
    off();
    await journal.begin(plain('a'), { relationship: 'r', args: {} });
    assert.deepEqual(seen, ['running 0/2', 'running 1/2', 'running 2/2', 'done 2/2']);
  });

  test('that stays can be given up, unless a final step has begun', async () => {
    const journal = await Journal.open(fresh());
    const world: number[] = [];
    const through = { failures: 0, undoFailures: 0, onFailure: 'undo', final: false } as const;
    const stuck = { ...through, failures: 9, onFailure: 'stay' } as const;
    const reason = new Failure('wrong-state', 'given up by ada');
    const definition = stack([through, stuck], world);
    const plan = await journal.begin(definition, { relationship: 'r', args: {} });
    await assert.rejects(runPlan(journal, definition, plan, undefined), fails('unreachable', /step 1/));
    assert.equal(journal.plan(plan.id)?.obstacle?.code, 'unreachable');
    const undone = await cancelPlan(journal, definition, plan, undefined, reason);
    assert.deepEqual([undone.state, undone.failure?.message, world], ['undone', 'given up by ada', []]);

    const final = stack([{ ...through, final: true }, stuck], world);
    const second = await journal.begin(final, { relationship: 'r', args: {} });
    await assert.rejects(runPlan(journal, final, second, undefined), fails('unreachable', /step 1/));
    await assert.rejects(
      cancelPlan(journal, final, second, undefined, reason),
      fails('wrong-state', /only go forward/),
    );
    assert.deepEqual(world, [0, 1]);
  });

  test('of another version is refused by the names of its steps and left alone', async () => {
    const journal = await Journal.open(fresh());
    const plan = await journal.begin(plain('a', 'b'), { relationship: 'r', args: {} });
    await assert.rejects(runPlan(journal, plain('a', 'c'), plan, undefined), fails('format-unknown', /a, b.*a, c/));
    assert.deepEqual(journal.pending(), [plan]);
  });
});

describe('the journal', () => {
  test('names a damaged plan, and removes what a torn write left', async () => {
    const directory = fresh();
    const journal = await Journal.open(directory);
    const plan = await journal.begin(plain('a'), { relationship: 'r', args: {} });
    const path = join(directory, `${plan.id}.json`);
    await writeFile(`${path}.tmp`, '{');
    await Journal.open(directory);
    assert.deepEqual(await readdir(directory), [`${plan.id}.json`]);
    await writeFile(path, '{"id":');
    await assert.rejects(Journal.open(directory), fails('io', new RegExp(`${plan.id}.json is not JSON`)));
    await writeFile(path, JSON.stringify({ ...plan, state: 'odd' }));
    await assert.rejects(checkJournal(directory), fails('io', new RegExp(`${plan.id}.json is damaged: state`)));
  });

  test('keeps the last hundred ended plans', async () => {
    let now = 0;
    const journal = await Journal.open(fresh(), () => ++now);
    for (let i = 0; i < 103; i++) {
      const plan = await journal.begin(plain('a'), { relationship: 'r', args: { i } });
      await journal.put({ ...plan, state: 'done' });
    }
    assert.equal((await readdir(journal.directory)).length, 100);
    assert.equal(journal.plans()[0]?.args['i'], 3);
  });
});

describe('the checker', () => {
  test('says in words what is done and what is left', async () => {
    const journal = await Journal.open(fresh(), () => 0);
    const begun = await journal.begin(plain('pause', 'send', 'start'), { relationship: 'r', args: {} });
    assert.deepEqual(describePlan(begun), {
      id: begun.id,
      summary: 'plain began at 1970-01-01T00:00:00.000Z and is at step 1 of 3 (pause).',
      done: [],
      left: ['pause', 'send', 'start'],
    });
    const steps = begun.steps.map(({ name }, index) => ({ name, done: index < 1 }));
    const failure = new Failure('unreachable', 'host-b does not answer', { hint: 'Wait.' }).toJSON();
    const undoing = await journal.put({ ...begun, steps, state: 'undoing', failure, obstacle: failure });
    assert.deepEqual(await checkJournal(journal.directory), [describePlan(undoing)]);
    assert.deepEqual(describePlan(undoing), {
      id: begun.id,
      summary:
        'plain began at 1970-01-01T00:00:00.000Z and is being taken back, with 2 of 3 steps to undo (next: send). ' +
        'It failed: host-b does not answer. It waits: host-b does not answer. Wait.',
      done: ['pause'],
      left: ['send', 'pause'],
    });
    const undone = await journal.put({ ...undoing, state: 'undone', obstacle: null });
    assert.match(describePlan(undone).summary, /was taken back at 1970-01-01T00:00:00.000Z\. It failed/);
    assert.deepEqual(await checkJournal(journal.directory), []);
  });
});
