import assert from 'node:assert/strict';
import { X509Certificate } from 'node:crypto';
import { mkdtemp, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { Failure } from '../model/failure.ts';
import { openAuthority, type Authority } from './authority.ts';

const DAY = 24 * 3600 * 1000;
let parent: string;
let directory: string;
let clock: number;
beforeEach(async () => {
  parent = await mkdtemp(join(tmpdir(), 'understudy-authority-'));
  directory = join(parent, 'security');
  clock = Date.now();
});
afterEach(() => rm(parent, { recursive: true }));

const open = (hostName = 'host-a', addresses: string[] = []): Promise<Authority> =>
  openAuthority(directory, { hostName, addresses, now: () => clock });
const leafOf = (authority: Authority): X509Certificate => new X509Certificate(authority.credentials.chain);

test('the first start makes an identity, the next ones find it', async () => {
  const first = await open('Host-A', ['192.0.2.7', 'a.example']);
  assert.equal(first.name, 'host-a');
  assert.equal(leafOf(first).subjectAltName, 'DNS:host-a, IP Address:192.0.2.7, DNS:a.example');
  assert.ok(leafOf(first).verify(new X509Certificate(first.caCertificate).publicKey));
  const again = await open('host-a', ['192.0.2.7', 'a.example']);
  assert.deepEqual(again.credentials, first.credentials);
  assert.equal(again.caFingerprint, first.caFingerprint);
});

test('keys are for their owner only', async () => {
  await open();
  assert.equal((await stat(directory)).mode & 0o777, 0o700);
  for (const file of ['ca.pem', 'host.pem']) assert.equal((await stat(join(directory, file))).mode & 0o777, 0o600);
});

test('a certificate is renewed when less than a third of its life is left, with the same authority', async () => {
  const authority = await open();
  const first = authority.credentials;
  clock += 260 * DAY;
  assert.equal(await authority.renewIfDue(), false);
  clock += 10 * DAY;
  assert.equal(await authority.renewIfDue(), true);
  assert.notEqual(authority.credentials.chain, first.chain);
  assert.ok(authority.expires > clock + 390 * DAY);
  assert.deepEqual((await open()).credentials, authority.credentials);

  clock += 500 * DAY; // the host was off for long
  const late = await open();
  assert.ok(late.expires > clock);
  assert.equal(late.caFingerprint, authority.caFingerprint);
});

test('a new name or a damaged certificate makes a new one, with the same authority', async () => {
  const first = await open();
  const renamed = await open('host-z');
  assert.equal(leafOf(renamed).subjectAltName, 'DNS:host-z');
  assert.equal(renamed.caFingerprint, first.caFingerprint);
  await writeFile(join(directory, 'host.pem'), 'rubbish');
  assert.equal(leafOf(await open('host-z')).subjectAltName, 'DNS:host-z');
});

test('a damaged authority is never replaced silently: peers hold it', async () => {
  await open();
  const file = join(directory, 'ca.pem');
  const whole = await readFile(file, 'utf8');
  const other = await openAuthority(join(parent, 'other'), { hostName: 'host-b', addresses: [] });
  const foreignKey = whole.replace(/-----BEGIN PRIVATE[^]*/, other.credentials.key);
  for (const content of ['', whole.slice(0, 300), foreignKey]) {
    await writeFile(file, content);
    await assert.rejects(
      open(),
      (error) => error instanceof Failure && error.code === 'io' && /ca\.pem/.test(error.message),
    );
    assert.equal(await readFile(file, 'utf8'), content);
  }
});

test('a name that no certificate can carry is refused', async () => {
  for (const name of ['', '*.example', 'a b', 'a/b', '-a', '192.0.2.7:1']) {
    await assert.rejects(open(name), (error) => error instanceof Failure && error.code === 'bad-config', name);
  }
});

test('a certificate that was made while the clock was a year ahead is made again when the clock is right', async () => {
  await open();
  clock += 365 * DAY;
  const ahead = await open();
  await ahead.renewIfDue();
  const { chain } = ahead.credentials;
  clock -= 365 * DAY;
  assert.equal(await ahead.renewIfDue(), true);
  assert.notEqual(ahead.credentials.chain, chain);
  assert.ok(ahead.expires < clock + 400 * DAY);
  assert.equal(await ahead.renewIfDue(), false);
});
