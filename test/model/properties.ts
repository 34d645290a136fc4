/** What must hold in every state of the explored world (SPEC.md numbers them). */
import type { Run } from './run.ts';
import { rebase } from './time.ts';
import { hasEnded } from '../../src/journal/plan.ts';
import { BLOCKS, contentOf, HOSTS, other, type HostName, type World } from './world.ts';

export function running(world: World): HostName[] {
  return HOSTS.filter((host) => world.hosts[host].vm?.state === 'running');
}

/** After each effect: about VMs and roles. */
export function checkAlways(run: Run): void {
  const { world } = run;
  const { a, b } = world.hosts;
  for (const host of HOSTS) {
    const { vm, images } = world.hosts[host];
    if (vm?.state === 'running' && images[vm.defined] === undefined) run.violate(`${host}: a locked VM runs`);
  }
  if (a.record?.role === 'primary' && b.record?.role === 'primary' && a.record.epoch === b.record.epoch) {
    run.violate(`both are primary of epoch ${a.record.epoch}`);
  }
  if (running(world).length < 2) return;
  if (world.budget.lease > 0) run.violate('two copies run, although there are leases');
  const higher = Math.max(a.record?.epoch ?? 0, b.record?.epoch ?? 0);
  if (higher > world.licensed) run.violate('two copies run, and nobody failed over without contact or by force');
  for (const { record } of [a, b]) {
    if (record?.role !== 'primary') run.violate(`two copies run, one of them on a host that is ${record?.role}`);
  }
}

/** Between activities: about data. */
export function checkAtRest(run: Run): void {
  checkAlways(run);
  for (const host of HOSTS) {
    const { record, vm, images, bitmaps } = run.world.hosts[host];
    const there = run.world.hosts[other(host)];
    if (record?.role !== 'primary' || record.state === 'SteppedDown') continue;
    if (there.record?.role !== 'replica' || there.replica === null || record.state.startsWith('FailedOver')) continue;
    const received = there.replica.waiting.at(-1)?.makes ?? there.replica.applied;
    if (record.position.sequence > received.sequence) {
      run.violate(
        `${host} counts log ${record.position.sequence} as acknowledged; the replica has ${received.sequence}`,
      );
    }
    if (record.copy !== null || record.position.state !== received.state) continue;
    const content = contentOf(received);
    const now = images[vm?.live ?? record.disks[0]!.path];
    const bitmap = bitmaps.find(({ name }) => name === record.bitmap);
    if (content === null || now === undefined || bitmap?.usable !== true) continue;
    const forgotten = BLOCKS.filter((block) => now[block] !== content[block] && !bitmap.dirty[block]);
    if (forgotten.length > 0)
      run.violate(`${host}: block ${forgotten.join()} differs from the replica's, and isn't tracked`);
  }
}

/** Normal: one VM runs, its host replicates, the other one follows, and nothing is under way. */
export function isNormal({ hosts, cut }: World): boolean {
  if (cut) return false;
  return HOSTS.some((host) => {
    const [here, there] = [hosts[host], hosts[other(host)]];
    return (
      here.up &&
      there.up &&
      here.record?.role === 'primary' &&
      here.record.state === 'Replicating' &&
      here.vm?.state === 'running' &&
      here.record.copy === null &&
      here.memory.loop !== 'off' &&
      there.record?.role === 'replica' &&
      there.record.state === 'Replicating' &&
      there.replica !== null &&
      !there.replica.frozen &&
      there.vm?.state === 'off' &&
      there.images[there.vm.defined] === undefined &&
      here.record.epoch <= there.record.epoch && // it is taken over with the next log
      there.replica.applied.state === here.record.position.state &&
      [...here.plans, ...there.plans].every(hasEnded)
    );
  });
}

/** Removes what nobody can come back to, so that worlds that behave alike are equal. */
export function tidy(world: World): void {
  rebase(world);
  const named = JSON.stringify(world.late) + HOSTS.map((host) => JSON.stringify(pendingOf(world, host))).join('');
  for (const host of HOSTS) {
    const here = world.hosts[host];
    here.plans = here.plans.filter((plan) => !hasEnded(plan) || named.includes(plan.id));
    here.memory.tried = here.memory.tried.filter((id) => here.plans.some((plan) => plan.id === id && !hasEnded(plan)));
    here.boot = 0; // of a life that is over by now, as far as anybody asks
    here.memory.answered = 0;
    here.memory.asleep = false;
    here.memory.patient = true;
    if (here.outbox !== null && here.outbox.logId !== here.record?.inFlight?.logId) here.outbox = null;
  }
}

function pendingOf(world: World, host: HostName): unknown {
  return world.hosts[host].plans.filter((plan) => !hasEnded(plan)).map(({ args }) => args);
}
