import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, realpathSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'node:test';
import { silentLog } from '../../lib/log.ts';
import { defaultConfig } from '../config/read.ts';
import { worstOf } from './finding.ts';
import { lookAtPlace } from './look-places.ts';
import { judgePlace, obstacleTo, type PlaceFacts, type PlaceNeeds, type Purpose } from './places.ts';

const GIB = 2 ** 30;
const USER = 'libvirt-qemu (uid 64055)';
const NEEDS: PlaceNeeds = { vmUser: USER, keepsReplicas: true, replicaReserve: undefined };
const ROOMY = { freeBytes: 50 * GIB, totalBytes: 100 * GIB, kind: 'disk' } as const;

function place(purpose: Purpose, change: Partial<PlaceFacts> = {}): PlaceFacts {
  return { purpose, path: `/var/${purpose}`, writable: true, fileSystem: ROOMY, barred: null, ...change };
}
const withRoom = (purpose: Purpose, free: number, kind: 'disk' | 'memory' | 'network' = 'disk') =>
  place(purpose, { fileSystem: { ...ROOMY, freeBytes: free, kind } });
const worst = (facts: PlaceFacts, needs: Partial<PlaceNeeds> = {}) =>
  worstOf(judgePlace(facts, { ...NEEDS, ...needs }));

test('a good place is good for every purpose', () => {
  for (const purpose of ['state', 'outbox', 'points', 'replicas', 'run'] as const) {
    assert.equal(worst(place(purpose)), 'ok', purpose);
  }
  assert.equal(obstacleTo(place('points'), USER), undefined);
});

test('a directory that bars the way of QEMU’s user is named, with the command that opens it', () => {
  const barred = place('points', { barred: { at: '/root' } });
  const [rights] = judgePlace(barred, NEEDS);
  assert.equal(rights!.severity, 'critical');
  assert.match(rights!.found, /libvirt-qemu \(uid 64055\), can't pass \/root on the way to \/var\/points/);
  assert.match(rights!.cure!, /`chmod o\+x \/root`.*`pointDirectory`/);
  const failure = obstacleTo(barred, USER)!;
  assert.deepEqual([failure.code, failure.hint], ['no-access', rights!.cure]);
});

test('on the way to replicas it matters where there are any; what can’t be asked is no obstacle', () => {
  const barred = place('replicas', { barred: { at: '/root' } });
  assert.equal(worst(barred), 'critical');
  assert.equal(worst(barred, { keepsReplicas: false }), 'warning');
  const unknown = place('points', { barred: 'unknown' });
  assert.equal(worst(unknown), 'warning');
  assert.equal(obstacleTo(unknown, USER), undefined);
});

test('what is missing, or can’t be written, and a path too long for sockets', () => {
  const { fileSystem: _none, ...missing } = place('replicas', { writable: false });
  assert.match(
    judgePlace(missing, NEEDS)
      .map(({ found }) => found)
      .join('|'),
    /^\/var\/replicas isn't there$/,
  );
  const { fileSystem: _gone, ...unmade } = place('points', { writable: false });
  assert.equal(obstacleTo(unmade, USER), undefined, 'it is made when it is needed');
  assert.equal(worst(place('state', { writable: false })), 'critical');
  assert.equal(obstacleTo(place('points', { writable: false }), USER)?.code, 'no-access');
  assert.equal(obstacleTo(place('points', { path: `/${'x'.repeat(51)}` }), USER), undefined);
  assert.equal(obstacleTo(place('points', { path: `/${'x'.repeat(52)}` }), USER)?.code, 'bad-config');
});

test('room, by what it is needed for', () => {
  const verdicts = (purpose: Purpose, ...free: number[]) => free.map((bytes) => worst(withRoom(purpose, bytes)));
  assert.deepEqual(verdicts('points', 0.4 * GIB, 1.9 * GIB, 2 * GIB), ['critical', 'warning', 'ok']);
  assert.deepEqual(verdicts('replicas', 0.9 * GIB, 1.9 * GIB, 2 * GIB), ['critical', 'warning', 'ok']);
  assert.deepEqual(verdicts('state', 0.05 * GIB, 0.9 * GIB, GIB), ['critical', 'warning', 'ok']);
  assert.deepEqual(verdicts('outbox', 0.5 * GIB, GIB), ['warning', 'ok']);
  assert.equal(worst(withRoom('replicas', 0.9 * GIB), { keepsReplicas: false }), 'warning');
  assert.equal(worst(withRoom('replicas', 6 * GIB), { replicaReserve: 7 * GIB }), 'critical', 'the configured reserve');
});

test('what must outlive a restart doesn’t lie in memory', () => {
  assert.equal(worst(withRoom('state', 50 * GIB, 'memory')), 'warning');
  assert.equal(worst(withRoom('run', 50 * GIB, 'memory')), 'ok');
  assert.equal(worst(withRoom('points', 50 * GIB, 'network')), 'warning');
});

test('a look at real directories', async () => {
  const directory = realpathSync(mkdtempSync(join(tmpdir(), 'us-doctor-')));
  try {
    const config = {
      ...defaultConfig('a'),
      pointDirectory: join(directory, 'p'),
      stateDirectory: join(directory, 'none'),
    };
    mkdirSync(config.pointDirectory);
    chmodSync(directory, 0o711);
    chmodSync(config.pointDirectory, 0o700); // it is opened with each point
    const itself = { uid: process.getuid!(), gid: process.getgid!() };
    const points = await lookAtPlace('points', { config, user: itself, log: silentLog() });
    assert.equal(points.writable, true);
    assert.ok(points.fileSystem!.totalBytes >= points.fileSystem!.freeBytes && points.fileSystem!.freeBytes > 0);
    // Who isn't root can't ask in anybody's name.
    assert.equal(points.barred, itself.uid === 0 ? null : 'unknown');
    assert.equal((await lookAtPlace('points', { config, user: undefined, log: silentLog() })).barred, undefined);
    const state = await lookAtPlace('state', { config, user: itself, log: silentLog() });
    assert.deepEqual([state.writable, state.fileSystem], [false, undefined]);
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
});
