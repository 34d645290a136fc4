import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  advanced,
  bytesDone,
  NOT_VERIFIED,
  sliceBytes,
  untilNextPass,
  withPass,
  type Verification,
} from './verification.ts';

const MIB = 2 ** 20;
const DISKS = [
  { target: 'vda', size: 3 * MIB },
  { target: 'vdb', size: MIB },
];
const DAY = 86_400;

test('a pass goes over all disks in order, and then waits until the next is due', () => {
  let now = 1000;
  let at: Verification = withPass(NOT_VERIFIED, DAY, null, now);
  const seen: string[] = [];
  while (at.pass !== null) {
    now += 10;
    seen.push(`${at.pass.disk}+${at.pass.offset} after ${bytesDone(at.pass, DISKS)}`);
    const { size } = DISKS[at.pass.disk]!;
    at = advanced(at, DISKS, { to: Math.min(size, at.pass.offset + 2 * MIB), leftOut: 7 }, { now, took: now - 1000 });
  }
  assert.deepEqual(seen, ['0+0 after 0', `0+${2 * MIB} after ${2 * MIB}`, `1+0 after ${3 * MIB}`]);
  assert.deepEqual(at.last, { began: 1000, ended: 1030, leftOut: 21 });
  assert.equal(untilNextPass(DAY, 30), DAY * 1000 - 30);
  assert.equal(withPass(at, DAY, 30, now).pass, null);
  assert.notEqual(withPass(at, DAY, DAY * 1000, now).pass, null);
});

test('a pass goes past disks that are gone, also those that go in the middle of it', () => {
  const gone = (place: number) => DISKS.map((disk, i) => (i === place ? { ...disk, gone: true as const } : disk));
  const at = { now: 20, took: 10 };
  const begun = withPass(NOT_VERIFIED, DAY, null, 10);
  const first = advanced(begun, gone(0), { to: MIB, leftOut: 0 }, at);
  assert.deepEqual([first.pass, first.last], [null, { began: 10, ended: 20, leftOut: 0 }]);
  assert.equal(advanced(begun, gone(1), { to: 3 * MIB, leftOut: 0 }, at).pass, null);
  assert.equal(bytesDone({ disk: 2, offset: 0 }, gone(0)), MIB);
});

test('without a schedule nothing is done by itself', () => {
  assert.equal(withPass(NOT_VERIFIED, 0, null, 1).pass, null);
  assert.equal(sliceBytes(DISKS, 300, 0), 0);
  const asked = { ...NOT_VERIFIED, asked: true, pass: { began: 1, disk: 0, offset: 0, leftOut: 0 } };
  assert.equal(withPass(asked, 0, null, 1), asked);
});

test('a cycle compares its share, and never next to nothing', () => {
  const tebibyte = [{ target: 'vda', size: 2 ** 40 }];
  const passes = (sliceBytes(tebibyte, 300, 7 * DAY) * (7 * DAY)) / 300 / 2 ** 40;
  assert.ok(passes > 1.4 && passes < 1.6, `${passes} passes in seven days`);
  assert.equal(sliceBytes(DISKS, 5, 7 * DAY), MIB);
});
