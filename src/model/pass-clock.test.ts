import assert from 'node:assert/strict';
import { test } from 'node:test';
import { PassClock } from './pass-clock.ts';
import { advanced, NOT_VERIFIED, withPass, type Verification } from './verification.ts';

const DAY_S = 86_400;
const DAY = DAY_S * 1000;
const YEAR = 365 * DAY;
const DISKS = [{ target: 'vda', size: 2 ** 20 }];

/** A host whose clock somebody sets while passes are due every day. */
class Host {
  readonly clock = new PassClock();
  boot = 5 * YEAR;
  set = 0;
  verification: Verification = NOT_VERIFIED;

  get at() {
    return { now: 1_700_000_000_000 + this.boot + this.set, boot: this.boot };
  }

  /** Whether a pass is under way after this look. */
  look(clock = this.clock): boolean {
    const since = clock.sinceLast(this.verification, this.at);
    this.verification = withPass(this.verification, DAY_S, since, this.at.now);
    clock.sincePass(this.verification, this.at);
    return this.verification.pass !== null;
  }

  end(): void {
    const took = this.clock.sincePass(this.verification, this.at);
    this.verification = advanced(this.verification, DISKS, { to: 2 ** 20, leftOut: 0 }, { now: this.at.now, took });
    this.look();
  }
}

test('a clock that is put forward or back neither begins a pass nor puts it off', () => {
  const host = new Host();
  assert.ok(host.look());
  host.end();
  for (const set of [YEAR, -YEAR, 0, 2 * YEAR]) {
    host.set = set;
    assert.equal(host.look(), false, `set by ${set}`);
  }
  host.boot += DAY - 1;
  assert.equal(host.look(), false);
  host.boot += 1;
  assert.ok(host.look());
});

test('a pass takes as long as it takes, whatever the clock shows meanwhile', () => {
  const host = new Host();
  host.look();
  host.boot += 5000;
  host.set = -YEAR;
  host.end();
  const { began, ended } = host.verification.last!;
  assert.deepEqual([ended - began, ended], [5000, host.at.now]);
});

test('a daemon that was away goes by the clock once, and is never put off by more than one pass', () => {
  const host = new Host();
  host.look();
  host.end();
  host.boot += DAY / 2;
  host.set = -YEAR;
  const other = new PassClock();
  assert.equal(host.look(other), false);
  host.boot += DAY;
  assert.ok(host.look(other));
});
