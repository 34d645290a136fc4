/** What can happen next in the explored world, each in words and as something to carry out. */
import { asFailure } from '../../src/model/failure.ts';
import { hasEnded, type Plan } from '../../src/journal/plan.ts';
import { runsHere } from '../../src/model/role.ts';
import { runCopy } from '../../src/primary/copy.ts';
import { runCycle } from '../../src/primary/cycle.ts';
import { keepLease, renewLease, wantsLease } from '../../src/failover/lease.ts';
import { heldUntil, needsLease } from '../../src/model/lease.ts';
import { answering, hostOf } from './host.ts';
import { deliver } from './link.ts';
import { Dead, Paused, Pruned, kill, loseVm, powerOff, type Run } from './run.ts';
import { isFresh, isOverdue, nextMoment } from './time.ts';
import { HOSTS, ID, other, type HostName, type World } from './world.ts';

export interface Activity {
  readonly words: string;
  readonly host: HostName | undefined;
  readonly what: string;
  /** By a person: not to be relied on for what has to come by itself. */
  readonly person: boolean;
  act(run: Run): Promise<void> | void;
}

/** Everything that may happen next. */
export function activities(world: World): Activity[] {
  const lease = world.budget.lease > 0 ? HOSTS.flatMap((host) => byLease(world, host)) : [];
  const hosts = HOSTS.flatMap((host) => [...byItself(world, host), ...byPerson(world, host)]);
  return [...hosts, ...lease, ...byChance(world)];
}

/** What a daemon does by itself, and a guest. */
function byItself(world: World, host: HostName): Activity[] {
  const here = world.hosts[host];
  const found: Activity[] = [];
  const add = (what: string, words: string, act: Activity['act']) =>
    found.push({ words: `${host}: ${words}`, host, what, person: false, act });
  if (here.vm?.state === 'running' && world.budget.writes > 0)
    add('guest', 'the guest writes', (run) => write(run, host));
  if (!here.up) return found;
  const { memory, replica } = here;
  for (const plan of here.plans.filter((one) => !hasEnded(one))) {
    const words = plan.state === 'undoing' ? `${plan.kind} is taken back, a step` : `${plan.kind}, a step`;
    add(`plan ${plan.id}`, words, (run) => carryOn(run, host, plan));
  }
  const untried = here.plans.some((plan) => !hasEnded(plan) && !memory.tried.includes(plan.id));
  if (!memory.begun && !untried) {
    add('roles', 'takes up its relationships', async (run) => {
      run.world.hosts[host].memory.begun = true;
      await begin(run, host);
    });
  }
  if (memory.loop !== 'off') add('loop', 'replicates', (run) => replicate(run, host));
  if (memory.watching === 'begin') {
    add('roles', 'asks who holds the role', (run) => begin(run, host));
    if (!here.started) {
      add('roles', 'has waited long enough for the other side', async (run) => {
        run.world.hosts[host].memory.patient = false;
        await begin(run, host);
      });
    }
  }
  // A plan may have stepped down: `Contact` sees that.
  const unwatched = memory.begun && memory.watching === null && here.record?.state === 'SteppedDown';
  if (memory.watching === 'role-lost' || (unwatched && here.plans.every(hasEnded))) {
    add('roles', 'asks who holds the role', (run) => roleLost(run, host));
  }
  if (replica !== null && !replica.frozen && replica.waiting.length > 0) {
    add('apply', 'applies what it received', (run) => hostOf(run, host).services.replicas.get(ID).drained());
  }
  return found;
}

/** What `LeaseKeeper` does: at any time, also before plans are taken up. */
function byLease(world: World, host: HostName): Activity[] {
  const { record, lease, stopped, up } = world.hosts[host];
  const found: Activity[] = [];
  const add = (words: string, act: Activity['act']) =>
    found.push({ words: `${host}: ${words}`, host, what: 'lease', person: false, act });
  if (isOverdue(world, host)) {
    if (up) add('the guard pauses the VM, its daemon hangs', ({ world: now }) => guard(now, host, 'paused'));
    else add('the guard ends the VM, libvirt hangs', ({ world: now }) => guard(now, host, 'off'));
  }
  if (!up || record === null) return found;
  const held = lease !== null && heldUntil(lease, lease.seconds) > world.clock;
  if (stopped || (held ? record.stoppedByLease === true : lease !== null || needsLease(record))) {
    add('looks after its lease', async (run) => await keepLease(hostOf(run, host).services, ID));
  }
  const fresh = lease?.sentAt === world.clock && isFresh(world, other(host));
  if (runsHere(record) && (!fresh || record.stoppedByLease === true)) {
    add('renews its lease', async (run) => {
      const { services } = hostOf(run, host);
      const now = services.store.relationship(ID)!;
      if (await wantsLease(services, now)) await renewLease(services, now);
    });
  }
  return found;
}

/** Past the daemon: what libvirt sees is a VM that is paused, or one whose QEMU has died. */
function guard(world: World, host: HostName, state: 'paused' | 'off'): void {
  const here = world.hosts[host];
  here.stopped = true;
  if (state === 'paused') here.vm!.state = 'paused';
  else loseVm(here);
}

function byPerson(world: World, host: HostName): Activity[] {
  const here = world.hosts[host];
  const { record, vm, replica, plans, lease } = here;
  const found: Activity[] = [];
  if (!here.up || record === null) return found;
  const add = (words: string, act: Activity['act']) =>
    found.push({ words: `a person at ${host}: ${words}`, host, what: 'command', person: true, act });
  const operate = (run: Run) => hostOf(run, host).operations;
  const call = { signal: new AbortController().signal };
  const busy = plans.some((plan) => !hasEnded(plan));
  if (plans.some((plan) => !hasEnded(plan) && plan.kind === 'planned-failover' && plan.state === 'running')) {
    add('cancels the planned failover', async (run) => void (await operate(run).cancelFailover({ ref: ID }, call)));
  }
  if (busy) return found;
  if (record.role === 'replica' && world.budget.failovers > 0 && replica !== null && !record.state.startsWith('Rec')) {
    for (const force of [false, true]) {
      for (const older of [false, true]) {
        const point = older ? replica.older[0]?.point.sequence : undefined;
        if (older && point === undefined) continue;
        const to = older ? 'an older point' : 'the latest point';
        add(`fails over to ${to}${force ? ', by force' : ''}`, (run) => failOver(run, host, { force, point }));
      }
    }
  }
  if (record.role !== 'primary') return found;
  if (record.state === 'Replicating' && world.budget.planned > 0) {
    add('begins a planned failover', async (run) => {
      run.world.budget.planned--;
      await operate(run).plannedFailover({ ref: ID, start: true, shutdownTimeoutSeconds: 60 }, call);
    });
  }
  // To begin one is always possible for who must; cancelling is what costs.
  if (record.state === 'WaitingForStartResynchronize' && record.autoResync === 'never') {
    add('asks for a comparison', async (run) => void (await operate(run).replicationResync({ ref: ID }, call)));
  }
  if (record.state === 'Resynchronizing' && world.budget.resyncs > 0) {
    add('cancels the comparison', async (run) => {
      run.world.budget.resyncs--;
      await operate(run).replicationCancelResync({ ref: ID }, call);
    });
  }
  if (record.state === 'Replicating' && world.budget.resyncs > 0) {
    add('asks for a comparison of what is well', async (run) => {
      run.world.budget.resyncs--;
      await operate(run).replicationResync({ ref: ID }, call);
    });
  }
  if (record.state === 'FailedOverWaitingCompletion') {
    add('cancels the failover', async (run) => void (await operate(run).cancelFailover({ ref: ID }, call)));
    add('completes the failover', async (run) => void (await operate(run).completeFailover({ ref: ID }, call)));
  }
  if (record.state.startsWith('FailedOver')) {
    add('reverses replication', async (run) => void (await operate(run).reverseReplication({ ref: ID }, call)));
  }
  // By virsh. Somebody who starts the VM on both hosts by hand gets what he asked for: not explored.
  const there = world.hosts[other(host)];
  // Nor where the VM needs a lease and there is none: its daemon would stop it at once.
  const leased = !needsLease(record) || (lease !== null && heldUntil(lease, lease.seconds) > world.clock);
  const elsewhere = there.vm?.state === 'running' || there.plans.some((plan) => !hasEnded(plan));
  if (
    vm?.state === 'off' &&
    leased &&
    !elsewhere &&
    here.images[vm.defined] !== undefined &&
    record.state !== 'SteppedDown'
  ) {
    add('starts the VM', async (run) => {
      run.world.hosts[host].knows = 0; // the person knows better
      await hostOf(run, host).services.hypervisor.start(record.vmId);
    });
  }
  return found;
}

/** Faults, and their end. */
function byChance(all: World): Activity[] {
  const { cut, budget, hosts, late } = all;
  const found: Activity[] = [];
  const add = (words: string, act: (world: World) => void) =>
    found.push({ words, host: undefined, what: 'chance', person: false, act: (run) => act(run.world) });
  if (cut) add('the network is back', (world) => void (world.cut = false));
  else if (budget.cuts > 0) {
    add('the network is cut', (world) => {
      world.cut = true;
      world.budget.cuts--;
    });
  }
  const moment = budget.lease > 0 ? nextMoment(all) : undefined;
  if (moment !== undefined) add('time passes', (world) => void (world.clock = moment));
  for (const host of HOSTS) {
    const { up } = hosts[host];
    if (!up) add(`${host} starts again`, (world) => restart(world, host));
    if (up && budget.crashes > 0) add(`the daemon of ${host} is killed`, (world) => kill(world, host));
    if (up && budget.powerLosses > 0) add(`${host} loses power`, (world) => powerOff(world, host));
  }
  for (const [index, { to, method, args }] of late.entries()) {
    if (cut || !hosts[to].up) continue;
    const act = async (run: Run) => {
      run.world.late.splice(index, 1);
      await deliver(run, to, answering, method as 'prepare', args);
    };
    found.push({ words: `a late ${method} arrives at ${to}`, host: to, what: 'late', person: false, act });
  }
  return found;
}

/** Carries an activity out, to its end or to where it pauses; whatever it throws is nobody's to catch any more. */
export async function perform(activity: Activity, run: Run): Promise<void> {
  run.under.push(activity);
  try {
    await activity.act(run);
  } catch (error) {
    if (error instanceof Dead || error instanceof Paused || error instanceof Pruned) return;
    const failure = asFailure(error);
    if (failure.code === 'internal') run.violate(`${activity.words}: ${failure.message}: ${String(failure.cause)}`);
  } finally {
    run.under.pop();
    if (activity.host !== undefined) run.world.hosts[activity.host].memory.asleep = false;
  }
}

function write(run: Run, host: HostName): void {
  const here = run.world.hosts[host];
  const n = run.world.nextWrite++;
  const block = run.world.budget.known === 0 ? n % 2 : 0;
  const { live } = here.vm!;
  run.world.budget.writes--;
  // What was there before, and is known: that is what could be left out wrongly.
  const value = run.world.budget.known === 0 ? n : here.truth[0] === 0 ? 1 : 0;
  const written = (blocks: readonly number[]) => blocks.map((before, index) => (index === block ? value : before));
  here.images[live!] = written(here.images[live!]!) as [number, number];
  here.truth = written(here.truth) as [number, number];
  for (const bitmap of here.bitmaps) if (bitmap.path === live) bitmap.dirty[block] = true;
}

/** As `Daemon` does before anything else: the disks of a failed-over VM are nobody else's. */
function restart(world: World, host: HostName): void {
  const here = world.hosts[host];
  here.up = true;
  here.memory.since = world.clock;
  if (here.record !== null && runsHere(here.record) && here.replica !== null) here.replica.frozen = true;
}

async function carryOn(run: Run, host: HostName, plan: Plan): Promise<void> {
  try {
    await hostOf(run, host).carryOn(plan);
  } catch (error) {
    if (error instanceof Dead) throw error;
    if (!(error instanceof Paused) && !run.world.hosts[host].memory.tried.includes(plan.id)) {
      run.world.hosts[host].memory.tried.push(plan.id);
    }
    throw error;
  }
}

async function failOver(
  run: Run,
  host: HostName,
  request: { force: boolean; point: number | undefined },
): Promise<void> {
  const { force, point } = request;
  run.world.budget.failovers--;
  const { memory } = run.world.hosts[host];
  memory.answered = 0;
  const input = { ref: ID, force, ...(point === undefined ? {} : { point }) };
  const signal = new AbortController().signal;
  const { operations, life } = hostOf(run, host);
  await operations.unplannedFailover(input, { signal });
  life.live();
  if (force || memory.answered === 0) run.world.licensed = run.world.hosts[host].record!.epoch + 1;
}

/** One thing that the loop does; what it makes of a failure is what `ReplicationLoop` does. */
async function replicate(run: Run, host: HostName): Promise<void> {
  const { services, replication } = hostOf(run, host);
  const { memory } = run.world.hosts[host];
  const { signal } = new AbortController();
  try {
    if (memory.loop === 'to agree') {
      await services.primaries.loop(ID).cycleNow('crash-consistent', signal);
      memory.loop = 'agreed';
    } else {
      await runCopy(replication, signal);
      await runCycle(replication, 'crash-consistent', signal);
    }
  } catch (error) {
    if (error instanceof Dead || error instanceof Pruned) throw error;
    const lost = !(error instanceof Paused) && asFailure(error).code === 'stale-epoch';
    memory.loop = lost ? 'off' : 'to agree';
    if (lost) memory.watching ??= 'role-lost';
    throw error;
  }
}

async function begin(run: Run, host: HostName): Promise<void> {
  await watch(run, host, ({ roles }) => void roles.begin().catch(() => undefined));
}

async function roleLost(run: Run, host: HostName): Promise<void> {
  await watch(run, host, ({ roles }) => roles.roleLost(ID));
}

/** One look of whoever watches a role: until it sleeps, or is done. */
async function watch(run: Run, host: HostName, look: (host: ReturnType<typeof hostOf>) => void): Promise<void> {
  const one = hostOf(run, host);
  const { memory } = run.world.hosts[host];
  const before = memory.watching;
  memory.asleep = false;
  memory.watching = null;
  one.elapsed = 0;
  const depth = run.under.length;
  look(one);
  // Nothing here waits for anything outside: when all promises are settled, it is over.
  do await new Promise((resolve) => setImmediate(resolve));
  while (run.under.length > depth);
  const { asleep } = memory;
  memory.asleep = false;
  one.life.live();
  memory.patient = true;
  if (!asleep) return;
  // Stepped down, it waits for the role's return, as after a restart.
  const { state } = run.world.hosts[host].record!;
  memory.watching = before === 'role-lost' && state !== 'SteppedDown' ? 'role-lost' : 'begin';
}
