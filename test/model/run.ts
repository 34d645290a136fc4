/**
 * One activity, carried out once along given choices: at each place where the world could go another way (a crash, a lost
 * answer, the other host in between) the run asks, and notes what else could have been chosen.
 */
import { Failure } from '../../src/model/failure.ts';
import { noMemory, type HostName, type HostWorld, type World } from './world.ts';

/** The daemon that wanted this is dead: nothing of it happens any more. */
export class Dead extends Error {}
/** The activity goes on another time, from what is stored. */
export class Paused extends Error {}
/** This order of things is another order that is explored anyway. */
export class Pruned extends Error {}
/** A property doesn't hold. */
export class Violation extends Error {}

export interface Chosen {
  readonly options: number;
  readonly taken: number;
  /** In words, for a trace; empty for "nothing special". */
  readonly words: string;
}

export interface Option {
  readonly words: string;
  act(): void | Promise<void>;
}

export class Run {
  readonly world: World;
  readonly chosen: Chosen[] = [];
  violation: Violation | undefined;
  pruned = false;
  readonly #choices: readonly number[];
  /** What the other host could do in between. Set by the explorer. */
  interruptions: (run: Run) => Option[] = () => [];
  /** Called after each effect. */
  check: (run: Run) => void = () => undefined;
  /** What is under way now, outermost first. */
  readonly under: { readonly host: HostName | undefined; readonly what: string }[] = [];

  constructor(world: World, choices: readonly number[]) {
    this.world = world;
    this.#choices = choices;
  }

  /** Takes one of the ways on; the first is "nothing special". Options are only looked at where there is a choice to make. */
  choose(options: readonly string[]): number {
    if (options.length < 2) return 0;
    const taken = this.#choices[this.chosen.length] ?? 0;
    this.chosen.push({ options: options.length, taken, words: taken === 0 ? '' : options[taken]! });
    return taken;
  }

  name(): number {
    return this.world.nextName++;
  }

  violate(words: string): void {
    this.violation ??= new Violation(words);
  }

  prune(): never {
    this.pruned = true;
    throw new Pruned();
  }
}

/** A life of a daemon, as its parts see the world. */
export class Life {
  readonly run: Run;
  readonly host: HostName;
  readonly #boot: number;

  constructor(run: Run, host: HostName) {
    this.run = run;
    this.host = host;
    this.#boot = run.world.hosts[host].boot;
  }

  get here() {
    return this.run.world.hosts[this.host];
  }

  /** Throws when this life is over, or its activity for now. */
  live(): void {
    if (this.run.pruned) throw new Pruned();
    if (this.here.memory.asleep) throw new Paused();
    if (!this.here.up || this.here.boot !== this.#boot) throw new Dead();
  }

  /**
   * Before something of this host changes durably: it may die first, or the change may fail.
   * @param words what is about to happen.
   * @param fails whether it can fail by itself (libvirt, disks).
   */
  effect(words: string, fails = false): void {
    this.live();
    const { budget } = this.run.world;
    const options = [''];
    if (budget.crashes > 0) options.push(`${this.host}: its daemon is killed before it would ${words}`);
    if (budget.powerLosses > 0) options.push(`${this.host}: loses power before it would ${words}`);
    if (fails && budget.errors > 0) options.push(`${this.host}: an error: it can't ${words}`);
    const taken = options[this.run.choose(options)]!;
    if (taken === '') return;
    if (taken.includes('is killed')) kill(this.run.world, this.host);
    else if (taken.includes('loses power')) powerOff(this.run.world, this.host);
    else {
      budget.errors--;
      throw new Failure('libvirt', words);
    }
    throw new Dead();
  }

  /** After a change. */
  changed(): void {
    this.run.check(this.run);
  }
}

/** kill -9 of a daemon: VMs go on, open points stay open. */
export function kill(world: World, host: HostName): void {
  world.budget.crashes--;
  end(world, host);
}

/** Power loss: VMs are off, what wasn't flushed is gone. */
export function powerOff(world: World, host: HostName): void {
  world.budget.powerLosses--;
  end(world, host);
  const here = world.hosts[host];
  here.started = false;
  here.outbox = null;
  // The header may have got to the disk, and pages not.
  if (here.known !== null) {
    const { about, synced } = here.known;
    here.known = { about: { ...about, boot: about.boot === null ? null : 'another boot' }, blocks: synced, synced };
  }
  here.lease = null;
  here.stopped = false;
  loseVm(here);
}

/** QEMU dies: the VM is off, bitmaps that were open are inconsistent. */
export function loseVm(here: HostWorld): void {
  const { vm } = here;
  if (vm === null || vm.state === 'off') return;
  for (const bitmap of here.bitmaps) if (bitmap.path === vm.live) bitmap.usable = false;
  here.vm = { ...vm, state: 'off', live: null, pointOpen: false };
}

function end(world: World, host: HostName): void {
  const here = world.hosts[host];
  here.up = false;
  here.boot++;
  here.knows = 0;
  here.memory = noMemory();
}
