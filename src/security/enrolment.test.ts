import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, test } from 'node:test';
import fc from 'fast-check';
import { Failure } from '../model/failure.ts';
import { openAuthority, type Authority } from './authority.ts';
import { concludeEnrolment, Enrolment, requestEnrolment, WRONG_USES } from './enrolment.ts';
import { parseAddress, type Peer, type PeerBook } from './peer.ts';
import { printToken, readToken, type EnrolmentToken } from './token.ts';

class Book extends Map<string, Peer> implements PeerBook {
  list(): readonly Peer[] {
    return [...this.values()];
  }
  add(peer: Peer): void {
    this.set(peer.name, peer);
  }
  remove(name: string): void {
    this.delete(name);
  }
}

let directory: string;
let a: Authority;
let b: Authority;
let clock: number;
let peersOfB: Book;
let enrolment: Enrolment;

before(async () => {
  directory = await mkdtemp(join(tmpdir(), 'understudy-enrolment-'));
  a = await openAuthority(join(directory, 'a'), { hostName: 'host-a', addresses: [] });
  b = await openAuthority(join(directory, 'b'), { hostName: 'host-b', addresses: [] });
});
after(() => rm(directory, { recursive: true }));
beforeEach(() => {
  clock = Date.now();
  peersOfB = new Book();
  enrolment = new Enrolment({ authority: b, address: 'b:7443', peers: peersOfB, now: () => clock });
});

const issue = (validSeconds?: number): EnrolmentToken =>
  readToken(enrolment.issue(validSeconds === undefined ? {} : { validSeconds }).token);
const fails = (code: string, act: () => unknown): void =>
  assert.throws(act, (error) => error instanceof Failure && error.code === code);

test('a token says where to go and whom to expect, in one line', () => {
  const { token, expires } = enrolment.issue();
  assert.match(token, /^understudy1\.[A-Za-z0-9_-]{100,400}$/);
  const read = readToken(`  ${token}\n`);
  assert.deepEqual([read.name, read.address, read.caFingerprint], ['host-b', 'b:7443', b.caFingerprint]);
  assert.equal(read.secret.length, 16);
  assert.deepEqual([read.expires, expires], [clock + 900_000, clock + 900_000]);
});

test('the door is open while a token is out, and no longer', () => {
  assert.equal(enrolment.isOpen, false);
  const token = issue(60);
  assert.equal(enrolment.isOpen, true);
  clock += 60_000;
  assert.equal(enrolment.isOpen, false);
  fails('token-invalid', () => enrolment.accept(requestEnrolment(a, 'a:7443', token)));
  assert.equal(peersOfB.size, 0);
});

test('a token is burnt by too many wrong uses', () => {
  const token = issue();
  const right = requestEnrolment(a, 'a:7443', token);
  const wrong = requestEnrolment(a, 'a:7443', { ...token, secret: Buffer.alloc(16) });
  for (let use = 0; use < WRONG_USES; use++) fails('token-invalid', () => enrolment.accept(wrong));
  const other = issue();
  fails('token-invalid', () => enrolment.accept(wrong));
  fails('token-invalid', () => enrolment.accept(right));
  enrolment.accept(requestEnrolment(a, 'a:7443', other)); // another token is none the worse
  assert.deepEqual([...peersOfB.keys()], ['host-a']);
});

test('whatever is changed in a request or an answer, its proof is wrong', () => {
  const token = issue();
  const request = requestEnrolment(a, 'a:7443', token);
  for (const change of [{ name: 'host-x' }, { address: 'x:1' }, { caCertificate: b.caCertificate }]) {
    fails('token-invalid', () => enrolment.accept({ ...request, ...change }));
  }
  const answer = enrolment.accept(request);
  const peersOfA = new Book();
  const changes = [
    { name: 'host-x' },
    { address: 'x:1' },
    { caCertificate: a.caCertificate },
    { proof: request.proof },
  ];
  for (const change of changes) {
    fails('peer-identity', () => concludeEnrolment(peersOfA, a, token, { ...answer, ...change }, clock));
  }
  fails('peer-identity', () => concludeEnrolment(peersOfA, a, token, request, clock)); // sent back as an answer
  assert.equal(peersOfA.size, 0);
  assert.equal(concludeEnrolment(peersOfA, a, token, answer, clock).name, 'host-b');
});

test('one authority cannot be two peers', () => {
  enrolment.accept(requestEnrolment(a, 'a:7443', issue()));
  const alias = { ...a, name: 'host-alias' } as Authority;
  fails('already-exists', () => enrolment.accept(requestEnrolment(alias, 'a:7443', issue())));
});

test('a certificate that is not a CA is not taken for one', () => {
  const leaf = /^[^]+?-----END CERTIFICATE-----/.exec(a.credentials.chain)![0];
  for (const caCertificate of [leaf, 'rubbish']) {
    const cheat = { name: 'host-a', caCertificate } as Authority;
    fails('bad-request', () => enrolment.accept(requestEnrolment(cheat, 'a:7443', issue())));
  }
  assert.equal(peersOfB.size, 0);
});

test('tokens do not pile up', () => {
  for (let i = 0; i < 32; i++) enrolment.issue();
  fails('busy', () => enrolment.issue());
  clock += 900_000;
  enrolment.issue();
  fails('bad-request', () => enrolment.issue({ validSeconds: Number.NaN }));
});

test('every token that can be printed is read back, and no damage goes unnoticed as something else', () => {
  const hex = (bytes: number): fc.Arbitrary<string> =>
    fc.uint8Array({ minLength: bytes, maxLength: bytes }).map((all) => Buffer.from(all).toString('hex'));
  const tokens = fc.record(
    {
      name: fc.constantFrom('a', 'host-b', 'replica-1.example.org'),
      address: fc.constantFrom('a:1', '192.0.2.1:7443', '[2001:db8::1]:65535'),
      caFingerprint: hex(32),
      id: hex(8),
      secret: hex(16).map((text) => Buffer.from(text, 'hex')),
      expires: fc.integer({ min: 1, max: 2 ** 45 }),
    },
    { noNullPrototype: true },
  );
  fc.assert(fc.property(tokens, (token) => assert.deepEqual(readToken(printToken(token)), token)));
  fc.assert(
    fc.property(fc.string(), (text) => {
      assert.throws(() => readToken(`understudy1.${text}`), Failure);
      assert.throws(() => readToken(text), Failure);
    }),
  );
});

test('addresses', () => {
  assert.deepEqual(parseAddress('[2001:db8::7]:7443'), { host: '2001:db8::7', port: 7443 });
  assert.deepEqual(parseAddress('replica.example:1'), { host: 'replica.example', port: 1 });
  for (const bad of ['', 'host', 'host:', ':1', 'host:0', 'host:65536', '::1:5', 'a b:1', 'host:1x', 'u@h:1']) {
    fails('bad-request', () => parseAddress(bad));
  }
});
