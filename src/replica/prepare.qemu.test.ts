/** A replica is made or changed while its host has other things going on. */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { silentLog } from '../lib/log.ts';
import { Failure } from '../model/failure.ts';
import type { PrepareReplica, ReplicaStatus } from '../protocol/endpoint.ts';
import { newPlace, newReplica, type Place } from '../../test/faults/replica-host.ts';
import { TestPrimary } from '../../test/faults/replica-primary.ts';
import { LocalEndpoint, type ReplicaHost } from './endpoint.ts';
import { Replicas } from './replicas.ts';

let place: Place;
let replicas: Replicas;

beforeEach(async () => {
  place = await newPlace();
  const { lanes } = place.options;
  const at = (name: string) => join(place.directory, name);
  replicas = await Replicas.open({ directory: at('replicas'), runDirectory: at('run'), lanes, log: silentLog() });
});
afterEach(async () => {
  await replicas.close();
  await place.clear();
});

function endpoint(host: Partial<ReplicaHost>): LocalEndpoint {
  const unasked = () => Promise.reject(new Failure('wrong-state', 'not asked for in this test'));
  return new LocalEndpoint(replicas, {
    primaryStatus: () => undefined,
    adoptDisks: unasked,
    prepared: () => Promise.resolve(),
    takeOver: unasked,
    removed: unasked,
    stateOf: () => 'Replicating',
    vmRunning: () => Promise.resolve(false),
    ...host,
  });
}

function request(primary: TestPrimary, change: Partial<PrepareReplica> = {}): PrepareReplica {
  const { id, disks, position: start } = primary;
  const { vmId, vmName, definition } = newReplica(primary);
  const settings = { epoch: start.epoch, intervalSeconds: 5, history: 4, base: 'empty', start } as const;
  return { id, vmId, vmName, definition, disks, ...settings, ...change };
}

void test('one that its host can not take is not left behind', async () => {
  const primary = new TestPrimary(1);
  const full = endpoint({ prepared: () => Promise.reject(new Failure('libvirt-down', 'libvirt is away')) });
  await assert.rejects(full.prepare(request(primary)), { code: 'libvirt-down' });
  assert.deepEqual(replicas.all(), []);
  assert.deepEqual(await readdir(join(place.directory, 'replicas')), []);
  const { received } = await endpoint({}).prepare(request(primary));
  assert.deepEqual(received, primary.position);
});

void test('what is about to come besides has to fit, and what is missing for it is said', async () => {
  const primary = new TestPrimary(3);
  const there = endpoint({});
  await there.prepare(request(primary));
  const { start: _start, ...settings } = request(primary, { base: 'continue' });
  await there.prepare({ ...settings, needs: 1 });
  await assert.rejects(there.prepare({ ...settings, history: 7, needs: 2 ** 52 }), {
    code: 'no-space',
    message: /more must be free: .* are, 4.* are about to come/,
  });
  assert.equal(replicas.get(primary.id).record.history, 4);
});

void test('its epoch is not raised once its host has taken the role, however late that is', async () => {
  const primary = new TestPrimary(2);
  await endpoint({}).prepare(request(primary));
  const { position } = primary;
  const taken: ReplicaStatus = {
    id: primary.id,
    role: 'primary',
    state: 'Replicating',
    epoch: position.epoch + 1,
    received: position,
    applied: position,
    vmRunning: true,
  };
  for (const asked of [1, 2]) {
    let times = 0;
    let told = 0;
    const taking = endpoint({
      primaryStatus: () => (times++ < asked ? undefined : taken),
      prepared: async () => void told++,
    });
    const epoch = position.epoch + 2;
    await assert.rejects(taking.prepare(request(primary, { base: 'continue', epoch })), { code: 'busy' });
    assert.equal(told, 0);
    if (asked === 1) assert.equal(replicas.get(primary.id).status().epoch, position.epoch);
  }
});
