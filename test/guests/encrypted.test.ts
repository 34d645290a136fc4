/** A VM with a LUKS disk: refused by name, replicated as plain text where that is allowed, and never made plain where it was encrypted. */
import assert from 'node:assert/strict';
import { rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before } from 'node:test';
import type { LabGuest } from '../../lab/guest/guest.ts';
import { until } from '../../src/lib/clock.ts';
import { Failure } from '../../src/model/failure.ts';
import { assertRecordsGood } from '../system/records-inside.ts';
import { insist } from '../system/administrator.ts';
import { pointsOf } from '../system/equality.ts';
import { stages } from '../system/stages.ts';
import {
  INTERVAL_SECONDS,
  type Replication,
  TwoHosts,
  VM,
  eventsOf,
  hurry,
  look,
  protectedNow,
} from '../system/two-hosts.ts';

const PATIENCE_MS = 60_000;
const SECRET = '5f0c1f5e-6a3b-4d0e-9c3e-0123456789ab';
const KEY = 'a key that nobody guesses';
const KEY_FILE = '/etc/libvirt/key';
const WITH_KEY = ['--object', `secret,id=key,file=${KEY_FILE}`];
const LUKS = 'encrypt.format=luks,encrypt.key-secret=key,encrypt.iter-time=10';
const ENCRYPTION = `<encryption format='luks'><secret type='passphrase' uuid='${SECRET}'/></encryption>`;

const stage = stages();
let hosts: TwoHosts;

before(async () => {
  hosts = await TwoHosts.create('guest-encrypted.test', { prepare: encrypt });
});
after(() => hosts?.[Symbol.asyncDispose]());

const refusal = (words: RegExp) => (error: unknown) => {
  assert.ok(error instanceof Failure);
  assert.equal(error.code, 'disk-encrypted', error.message);
  assert.match(error.message, words);
  return true;
};

/** `private`: libvirt uses it, and tells it nobody. */
async function defineSecret({ host }: Pick<LabGuest, 'host'>, isPrivate: 'yes' | 'no'): Promise<void> {
  const xml = `<secret ephemeral='no' private='${isPrivate}'><uuid>${SECRET}</uuid><usage type='volume'><volume>${VM}</volume></usage></secret>`;
  writeFileSync(host.path('/etc/libvirt/secret.xml'), xml);
  await host.virsh('secret-define', '/etc/libvirt/secret.xml');
  await host.virsh('secret-set-value', SECRET, Buffer.from(KEY).toString('base64'));
}

/** The guest's first disk becomes a LUKS one, opened with a secret of libvirt's. */
async function encrypt(guest: LabGuest): Promise<void> {
  const { host } = guest;
  const [path, plain] = [guest.disk('vda'), '/var/lib/libvirt/images/plain.qcow2'];
  writeFileSync(host.path(KEY_FILE), KEY, { mode: 0o600 });
  await host.succeed(['mv', path, plain]);
  await host.succeed(['qemu-img', 'convert', ...WITH_KEY, '-f', 'qcow2', '-O', 'qcow2', '-o', LUKS, plain, path]);
  rmSync(host.path(plain));
  await defineSecret(guest, 'yes');
  const xml = await host.virsh('dumpxml', '--inactive', VM);
  await host.define(xml.replace(/<target dev='vda'/, `${ENCRYPTION}$&`));
}

async function isRefusedNow(words: RegExp): Promise<void> {
  await hurry(hosts.a);
  const { failure } = await hosts.a.waitFor(
    VM,
    'refused',
    (one) => one.failure?.code === 'disk-encrypted',
    PATIENCE_MS,
  );
  assert.match(failure!.message, words);
}

/** Of a VM that is off: reads the primary's disk by its key, and the latest point of it. */
async function assertSameContent(protectedUntil: number): Promise<void> {
  const { a, b, guest, scratch } = hosts;
  const file = join(scratch, 'vda.raw');
  await until(async () => ((await pointsOf(b))[0]?.confirmed ?? 0) >= protectedUntil, {
    timeoutMs: PATIENCE_MS,
    onTimeout: () => new Error(`b has no point of ${protectedUntil}`),
  });
  const { sequence } = (await pointsOf(b))[0]!;
  await b.act('pointExport', { ref: VM, point: sequence, disk: 'vda', file, format: 'raw' });
  const luks = `driver=qcow2,encrypt.key-secret=key,file.driver=file,file.filename=${guest.disk('vda')}`;
  const compare = [
    'qemu-img',
    'compare',
    '--image-opts',
    ...WITH_KEY,
    luks,
    `driver=raw,file.driver=file,file.filename=${file}`,
  ];
  const { code, stdout, stderr } = await a.host.exec(compare);
  assert.equal(code, 0, `point ${sequence}: ${stdout}${stderr}`);
}

stage('it is refused by name, and nothing is left of the try', async () => {
  const { a, b } = hosts;
  await assert.rejects(hosts.enable(), refusal(/disk vda: it is encrypted/));
  assert.deepEqual(await a.client.call('replicationList', {}), []);
  assert.deepEqual(await b.client.call('replicationList', {}), []);
  const findings = await a.client.call('doctor', { vm: VM });
  assert.match(JSON.stringify(findings), /vda is encrypted, and its replica would be plain text/);
});

stage('allowed, it is replicated; that is said, and the Replica VM has no encrypted disk', async () => {
  const { a, b } = hosts;
  const intervalSeconds = INTERVAL_SECONDS;
  await a.client.call('replicationEnable', { vm: VM, peer: 'b', intervalSeconds, replicaPlaintext: true });
  await a.waitFor(VM, 'replicating', ({ state }) => state === 'Replicating', PATIENCE_MS);
  assert.equal((await look(a)).replicaPlaintext, true);
  assert.match((await eventsOf(a)).join('\n'), /replica-plaintext: disk vda of web is encrypted/);
  assert.doesNotMatch(await b.host.virsh('dumpxml', '--inactive', VM), /encryption/);
});

stage('while that is taken back nothing is sent; a planned failover would need the disk for a replica', async () => {
  const { a } = hosts;
  await a.client.call('replicationSet', { ref: VM, replicaPlaintext: false });
  await isRefusedNow(/disk vda: it is encrypted/);
  const { position, statistics } = await look(a);
  await hurry(a);
  const again = (one: Replication) => one.statistics.failedCycles > statistics.failedCycles;
  const { position: now, statistics: then } = await a.waitFor(VM, 'tried again', again, PATIENCE_MS);
  assert.deepEqual([now, then.sentBytes], [position, statistics.sentBytes]);
  await a.client.call('replicationSet', { ref: VM, replicaPlaintext: true });
  await protectedNow(a, PATIENCE_MS);
  await assert.rejects(a.act('plannedFailover', { ref: VM }), refusal(/vda: its image is encrypted/));
});

stage('a disk that is moved to an encrypted image follows where that is allowed, and is named', async () => {
  const { a } = hosts;
  const [path, xml] = ['/var/lib/libvirt/images/moved.qcow2', '/etc/libvirt/moved.xml'];
  const size = String((await look(a)).disks.find(({ target }) => target === 'vdb')!.size);
  await a.host.succeed(['qemu-img', 'create', '-q', '-f', 'qcow2', ...WITH_KEY, '-o', LUKS, path, size]);
  const source = `<source file='${path}'>${ENCRYPTION}</source>`;
  writeFileSync(a.host.path(xml), `<disk type='file'><driver name='qemu' type='qcow2'/>${source}</disk>`);
  const how = ['--transient-job', '--reuse-external', '--wait', '--pivot'];
  await insist(() => a.host.virsh('blockcopy', VM, 'vdb', '--xml', xml, ...how));
  await protectedNow(a, PATIENCE_MS);
  assert.match((await eventsOf(a)).join('\n'), /replica-plaintext: disk vdb of web is encrypted now/);
});

stage('off, it is read with the key that libvirt has, if libvirt may tell it', async () => {
  const { a, guest } = hosts;
  await guest.shutdown();
  await isRefusedNow(/the VM is off, and its encrypted disk vda can't be opened: .*private/);
  await a.host.virsh('secret-undefine', SECRET);
  await defineSecret(guest, 'no');
  await hurry(a);
  const { protectedUntil } = await protectedNow(a, PATIENCE_MS);
  await assertSameContent(protectedUntil!);
});

stage('it boots on the Replica server; its old disk is not made plain by reversing', async () => {
  const { a, b, guest, guestOnB } = hosts;
  await b.act('unplannedFailover', { ref: VM });
  await guestOnB.agent.wait();
  await assertRecordsGood(guestOnB);
  await a.waitFor(VM, 'stepped down', ({ state }) => state === 'SteppedDown', PATIENCE_MS);
  await assert.rejects(b.act('reverseReplication', { ref: VM }), refusal(/vda, vdb: its image is encrypted/));
  assert.equal((await look(b)).state, 'FailedOverWaitingCompletion');
  assert.match(await a.host.virsh('dumpxml', '--inactive', VM), /<encryption format='luks'/);
  const { stdout } = await a.host.exec(['qemu-img', 'info', '-f', 'qcow2', guest.disk('vda')]);
  assert.match(stdout, /encrypted: yes/);
});
