import assert from 'node:assert/strict';
import { test } from 'node:test';
import { silentLog } from '../lib/log.ts';
import { Failure } from '../model/failure.ts';
import type { RelationshipRecord } from '../store/store.ts';
import { PeerClocks } from './peer-clocks.ts';

const HOUR = 3_600_000;

/** Two hosts with clocks that a test sets. */
class World {
  time = 1_795_000_000_000;
  boot = 1000;
  there = this.time;
  silent = false;
  readonly events: string[] = [];
  readonly clocks = new PeerClocks({
    clocks: { now: () => this.time, steady: () => this.boot, boot: () => this.boot },
    store: { relationships: () => [{ peer: 'b' }, { peer: 'b' }] as unknown as RelationshipRecord[] },
    measure: async () => {
      if (this.silent) throw new Failure('unreachable', 'b is silent');
      return { skewMs: this.there - this.time };
    },
    event: (_severity, kind, message) => this.events.push(`${kind}: ${message}`),
    log: silentLog(),
  });

  pass(ms: number): void {
    this.time += ms;
    this.boot += ms;
    this.there += ms;
  }
}

void test('a skew is measured, told once, and told when it is gone', async () => {
  const world = new World();
  assert.equal(world.clocks.skewMs('b'), null, 'not known yet');
  await world.clocks.look();
  assert.equal(world.clocks.skewMs('b'), 0);
  world.there -= HOUR;
  for (let i = 0; i < 3; i++) await world.clocks.look();
  assert.equal(world.clocks.skewMs('b'), -HOUR);
  assert.equal(world.events.length, 1);
  assert.match(world.events[0]!, /^clock-skew: the clock of b is 3600 s behind this host's/);
  world.there += HOUR;
  await world.clocks.look();
  assert.match(world.events[1]!, /^clock-skew-gone: the clock of b agrees/);
});

void test('what is known of a silent peer stays true when this host is given another time', async () => {
  const world = new World();
  await world.clocks.look();
  const offset = world.clocks.offset('b');
  world.silent = true;
  world.pass(HOUR);
  world.time += 24 * HOUR;
  await world.clocks.look();
  assert.equal(world.clocks.offset('b'), offset);
  assert.equal(world.clocks.skewMs('b'), -24 * HOUR);
});
