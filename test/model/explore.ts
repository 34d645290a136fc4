/** Breadth first through every world that can be reached, each activity along each of its choices. */
import { hash } from 'node:crypto';
import { activities, perform, type Activity } from './activities.ts';
import { checkAlways, checkAtRest, isNormal, running, tidy } from './properties.ts';
import { Run, type Option } from './run.ts';
import { setStage } from './stage.ts';
import { canonical, initialWorld, type Budget, type World } from './world.ts';

export interface Explored {
  readonly states: number;
  readonly transitions: number;
  readonly depth: number;
  readonly seconds: number;
  /** False when the bound on states came first. */
  readonly complete: boolean;
  /** The shortest way to what must not be, in words; the last line says what it is. */
  readonly violation: readonly string[] | undefined;
}

/** Kinds of a transition. */
const BY_ITSELF = 0;
const BY_PERSON = 1;
const BY_FAULT = 2;

export async function explore(budget: Partial<Budget>, limit: { states: number }): Promise<Explored> {
  return await new Exploration(limit.states).explore(initialWorld(budget));
}

class Exploration {
  readonly #limit: number;
  readonly #ids = new Map<string, number>();
  readonly #parents: number[] = [];
  readonly #words: string[] = [];
  readonly #depths: number[] = [];
  readonly #normal: boolean[] = [];
  readonly #twice: boolean[] = [];
  readonly #edges: [from: number, to: number, kind: number][] = [];
  #queue: { id: number; world: string }[] = [];
  #transitions = 0;
  #begun = performance.now();

  constructor(limit: number) {
    this.#limit = limit;
  }

  async explore(world: World): Promise<Explored> {
    this.#begun = performance.now();
    Error.stackTraceLimit = 0; // thousands of errors are part of the game
    this.#meet(world, -1, 'in the beginning');
    let expanded = 0;
    for (let at = 0; at < this.#queue.length && expanded < this.#limit; at++) {
      const { id, world: text } = this.#queue[at]!;
      this.#queue[at] = { id, world: '' };
      const violation = await this.#expand(id, text);
      if (violation !== undefined) return this.#result(violation);
      expanded++;
    }
    return this.#result(this.#deadEnd(expanded));
  }

  async #expand(id: number, text: string): Promise<string[] | undefined> {
    for (let index = 0, count = 1; index < count; index++) {
      const pending: number[][] = [[]];
      for (let choices = pending.pop(); choices !== undefined; choices = pending.pop()) {
        const world = JSON.parse(text) as World;
        const possible = activities(world);
        count = possible.length;
        const activity = possible[index];
        if (activity === undefined) return undefined;
        const run = await carryOut(world, activity, choices);
        for (let at = choices.length; at < run.chosen.length; at++) {
          const before = run.chosen.slice(0, at).map(({ taken }) => taken);
          for (let other = 1; other < run.chosen[at]!.options; other++) pending.push([...before, other]);
        }
        if (run.pruned) continue;
        this.#transitions++;
        const faults = run.chosen.map(({ words }) => words).filter((words) => words !== '');
        const words = [activity.words, ...faults].join('; but ');
        if (run.violation !== undefined) return [...this.#trace(id), words, run.violation.message];
        const isFault = faults.length > 0 || /is killed|loses power|is cut/.test(activity.words);
        const to = this.#meet(run.world, id, words);
        if (to !== id) this.#edges.push([id, to, isFault ? BY_FAULT : activity.person ? BY_PERSON : BY_ITSELF]);
      }
    }
    return undefined;
  }

  #meet(world: World, from: number, words: string): number {
    tidy(world);
    const text = JSON.stringify(world);
    const key = hash('md5', canonical(text), 'base64');
    const known = this.#ids.get(key);
    if (known !== undefined) return known;
    const id = this.#ids.size;
    this.#ids.set(key, id);
    this.#parents.push(from);
    this.#words.push(words);
    this.#depths.push(from < 0 ? 0 : this.#depths[from]! + 1);
    this.#normal.push(isNormal(world));
    this.#twice.push(running(world).length > 1);
    this.#queue.push({ id, world: text });
    return id;
  }

  /** A state from which no way leads back: to Normal with a person's help, or from two running copies to one without. */
  #deadEnd(expanded: number): string[] | undefined {
    const home = this.#from((id) => this.#normal[id]! || id >= expanded, BY_PERSON);
    const stuck = home.indexOf(0);
    if (stuck >= 0) return [...this.#trace(stuck), 'no way leads back to Normal from here'];
    const single = this.#from((id) => !this.#twice[id]! || id >= expanded, BY_ITSELF);
    const split = single.indexOf(0);
    if (split >= 0) return [...this.#trace(split), 'two copies run, and no host will step down by itself'];
    return undefined;
  }

  /** Marks every state from which a goal can be reached by transitions up to a kind. */
  #from(isGoal: (id: number) => boolean, kind: number): Uint8Array {
    const reached = new Uint8Array(this.#ids.size);
    const into: number[][] = Array.from({ length: this.#ids.size }, () => []);
    for (const [from, to, how] of this.#edges) if (how <= kind) into[to]!.push(from);
    const open = [...reached.keys()].filter(isGoal);
    for (const id of open) reached[id] = 1;
    for (let id = open.pop(); id !== undefined; id = open.pop()) {
      for (const from of into[id]!) {
        if (reached[from] === 1) continue;
        reached[from] = 1;
        open.push(from);
      }
    }
    return reached;
  }

  #trace(id: number): string[] {
    const words: string[] = [];
    for (let at = id; at > 0; at = this.#parents[at]!) words.push(this.#words[at]!);
    return words.toReversed();
  }

  #result(violation: readonly string[] | undefined): Explored {
    return {
      states: this.#ids.size,
      transitions: this.#transitions,
      depth: this.#depths.at(-1)!,
      seconds: (performance.now() - this.#begun) / 1000,
      complete: violation === undefined && this.#queue.every(({ world }) => world === ''),
      violation,
    };
  }
}

async function carryOut(world: World, activity: Activity, choices: readonly number[]): Promise<Run> {
  const run = new Run(world, choices);
  run.check = checkAlways;
  run.interruptions = interruptions;
  setStage(run);
  await perform(activity, run);
  checkAtRest(run);
  return run;
}

/** What hosts that aren't in the middle of something could do now: one thing, or a plan to its end. */
function interruptions(run: Run): Option[] {
  const occupied = new Set(run.under.map(({ host }) => host));
  const others = activities(run.world).filter(
    ({ host, what }) => host !== undefined && !occupied.has(host) && what !== 'guest' && what !== 'apply',
  );
  const once = others.map((activity) => ({ words: activity.words, act: () => perform(activity, run) }));
  const plans = others.filter(({ what }) => what.startsWith('plan'));
  const whole = plans.map(({ what, words }) => ({ words: `${words} after the other`, act: () => toItsEnd(run, what) }));
  return [...once, ...whole];
}

/** More steps than any plan has, forth and back. */
const STEPS = 20;

async function toItsEnd(run: Run, what: string): Promise<void> {
  for (let step = 0; step < STEPS; step++) {
    const next = activities(run.world).find((activity) => activity.what === what);
    if (next === undefined) return;
    await perform(next, run);
  }
}
