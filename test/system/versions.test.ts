/** Hosts of different versions: what the newer one sends is refused by name, told to people, and forgotten with the upgrade. */
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { join } from 'node:path';
import { after, before, test } from 'node:test';
import { run } from '../../src/lib/process.ts';
import { Replica } from '../../src/replica/replica.ts';
import { newPlace, newReplica, send } from '../faults/replica-host.ts';
import { TestPrimary } from '../faults/replica-primary.ts';
import { stages } from './stages.ts';
import { TwoHosts, VM, look, protectedNow } from './two-hosts.ts';

const PROGRAM = join(import.meta.dirname, 'peer-of-wire-2.ts');
const WORDS = /^a \(understudy [\d.]+, wire version 1\) and b \(understudy 2\.0\.0, wire version 2\) have no version/;

const stage = stages();
let hosts: TwoHosts;
before(async () => {
  hosts = await TwoHosts.create('versions.test');
});
after(() => hosts?.[Symbol.asyncDispose]());

stage('a peer of the next version of the wire is refused in words that people see', async () => {
  const { a, b } = hosts;
  await hosts.replicate();
  await b.stop();
  const next = b.host.spawn([process.execPath, PROGRAM, '/var/lib/understudy', 'b', '7443'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  try {
    await once(next.child.stdout!, 'data');
    const { failure } = await a.waitFor(VM, 'refused', (view) => view.failure?.code === 'format-unknown');
    assert.match(failure!.message, WORDS);
    assert.match(failure!.hint, /Upgrade understudy on a;/);
    const { health, healthReasons } = await look(a);
    assert.equal(health, 'critical', 'only a person can heal it');
    assert.match(healthReasons.join('\n'), /wire version 2/);

    const [understudy = '', ...options] = a.cliCommand.split(' ');
    const { stdout } = await run(understudy, [...options, 'replication', 'show', VM]);
    assert.match(stdout, /^in the way: +a \(.*wire version 2\)[^]*Upgrade understudy on a;/m);
    const check = await run(understudy, [...options, 'peer', 'check', 'b']);
    assert.equal(check.code, 1);
    assert.match(check.stderr, /wire version 2/);
  } finally {
    await next.signal('SIGTERM');
    await next.ended;
  }
});

stage('with a version that both know replication goes on by itself', async () => {
  const { a, b } = hosts;
  await b.start();
  await protectedNow(a);
  const { state, failure } = await look(a);
  assert.deepEqual([state, failure], ['Replicating', null]);
});

test('a log of the next version of the format is refused by name, before anything of it is kept', async () => {
  const place = await newPlace();
  try {
    const primary = new TestPrimary(5);
    const replica = await Replica.create(place.options, newReplica(primary));
    const log = await primary.log();
    const next = Buffer.from(log.bytes);
    next.writeUInt16LE(2, 8);
    await assert.rejects(send(replica, { ...log, bytes: next }), {
      code: 'format-unknown',
      message: /format version 2; this version reads 1/,
    });
    assert.equal(await replica.durableOffset(log), 0);
    await send(replica, log);
    await replica.drained();
    assert.equal(replica.points().length, 1, 'the same log in this version is taken');
    await replica.close();
  } finally {
    await place.clear();
  }
});
