import assert from 'node:assert/strict';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { Lab } from '../../lab/hosts/lab.ts';
import type { LabHost } from '../../lab/hosts/host.ts';
import { isAlive } from '../../lab/hosts/process-identity.ts';
import { until } from '../../src/lib/clock.ts';
import { machineNetwork, processesBeside, tracesOf } from './traces.ts';

let lab: Lab;
let a: LabHost;
let b: LabHost;

before(async () => {
  lab = await Lab.create({ name: 'hosts.libvirt.test', hosts: ['a', 'b'] });
  a = lab.host('a');
  b = lab.host('b');
});
after(() => lab.dispose());

const PORT = 7000;
const MIB = 1 << 20;

/** A server on `host` that swallows what it gets and says how much it was. */
async function serve(host: LabHost) {
  const script = `require('net').createServer({ allowHalfOpen: true }, (socket) => {
    let got = 0;
    socket.on('data', (data) => (got += data.length)).on('end', () => socket.end(String(got))).on('error', () => {});
  }).listen(${PORT}, '${host.address}', () => console.log('listening'))`;
  const server = host.spawn([process.execPath, '-e', script], { stdio: ['ignore', 'pipe', 'inherit'] });
  await new Promise((resolve) => server.child.stdout!.once('data', resolve));
  return server;
}

/** Sends bytes from one host to the other; gives the ms it took, or null if it hadn't arrived after `timeoutMs`. */
async function send(from: LabHost, to: LabHost, bytes: number, timeoutMs = 10_000): Promise<number | null> {
  const script = `const started = performance.now(); let got = '';
    const socket = require('net').connect({ host: '${to.name}', port: ${PORT}, allowHalfOpen: true }, () => socket.end(Buffer.alloc(${bytes})));
    socket.on('data', (data) => (got += data)).on('end', () => {
      console.log(got === '${bytes}' ? Math.round(performance.now() - started) : 'short'); process.exit() });
    setTimeout(() => { console.log('late'); process.exit() }, ${timeoutMs})`;
  const said = (await from.succeed([process.execPath, '-e', script])).trim();
  assert.match(said, /^(\d+|late)$/);
  return said === 'late' ? null : Number(said);
}

test('hosts are separate: names, addresses, libvirtd identities, files', async () => {
  const seen = await Promise.all(
    lab.hosts.map(async (host) => ({
      name: (await host.succeed(['hostname'])).trim(),
      libvirtName: await host.virsh('hostname'),
      uuid: /<uuid>(.*)<\/uuid>/.exec(await host.virsh('capabilities'))?.[1],
      address: /inet (\S+)\//.exec(await host.succeed(['ip', '-4', 'addr', 'show', 'br0']))?.[1],
    })),
  );
  assert.deepEqual(
    seen.map(({ name, libvirtName, address }) => [name, libvirtName, address]),
    lab.hosts.map(({ name, address }) => [name, name, address]),
  );
  assert.ok(seen[0]!.uuid && seen[0]!.uuid !== seen[1]!.uuid);

  writeFileSync(a.path('/var/lib/understudy/note'), 'a');
  assert.equal(await a.succeed(['cat', '/var/lib/understudy/note']), 'a');
  assert.ok(!existsSync(b.path('/var/lib/understudy/note')));
  assert.equal((await b.exec(['cat', '/var/lib/understudy/note'])).code, 1);
  assert.ok(a.libvirtSocket.length < 108);
  // two pid namespaces: nobody sees the other's, or the machine's
  assert.ok(!(await a.succeed(['ps', 'ax'])).includes('lab host b'));
});

test('the cable: through, cut, healed, slow', async () => {
  const server = await serve(b);
  const quick = await send(a, b, MIB);
  assert.ok(quick !== null && quick < 1000, `${quick} ms`);

  await b.cut();
  assert.equal(await send(a, b, 1000, 700), null);
  await b.heal();
  assert.notEqual(await send(a, b, 1000), null);

  for (const [limited, from, to] of [
    [a, a, b],
    [b, a, b],
  ] as const) {
    await limited.limit(8);
    const slow = await send(from, to, MIB);
    // 8 Mbit at 8 Mbit/s: a second, less what the buckets hold
    assert.ok(slow !== null && slow > 800 && slow < 3000, `${limited.name} limited: ${slow} ms`);
    await limited.limit(null);
  }
  const again = await send(a, b, MIB);
  assert.ok(again !== null && again < 1000, `${again} ms`);
  await server.signal('SIGKILL');
  await server.ended;
});

test('a program is signalled itself, and its end is told', async () => {
  const polite = a.spawn(['sh', '-c', 'trap "exit 7" TERM; echo up; while :; do sleep 0.01; done'], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  await new Promise((resolve) => polite.child.stdout!.once('data', resolve));
  assert.ok(await polite.signal('SIGTERM'));
  assert.deepEqual(await polite.ended, { code: 7, signal: null });
  assert.ok(!(await polite.signal('SIGTERM')));

  await assert.rejects(a.exec(['sleep', '60'], { timeoutMs: 200 }), { code: 'timeout' });
  assert.ok(!(await a.succeed(['ps', 'ax'])).includes('sleep 60'));
  assert.deepEqual(await a.exec(['sh', '-c', 'cat; echo no >&2; exit 3'], { input: 'in' }), {
    code: 3,
    stdout: 'in',
    stderr: 'no\n',
  });
});

test('libvirtd can be stopped, killed and started again', async () => {
  for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
    await a.stopLibvirtd(signal);
    await assert.rejects(a.virsh('list'), { code: 'libvirt' });
    await a.startLibvirtd();
    assert.equal(await a.virsh('list', '--name'), '');
  }
});

test('power loss: everything dies at once, /run is new, the rest of the disk stays', async () => {
  const program = b.spawn(['sh', '-c', 'trap "" TERM INT HUP; while :; do sleep 1; done']);
  const identity = await program.identity();
  const inHost = processesBeside(identity.pid);
  assert.ok(inHost.length >= 4, `init, libvirtd and the program: ${inHost.length}`);
  await b.succeed(['sh', '-c', 'echo volatile >/run/understudy/note; echo durable >/var/lib/understudy/note']);

  await b.crash();
  assert.ok(!b.running);
  assert.ok(!isAlive(identity));
  assert.deepEqual(await program.ended, { code: null, signal: 'SIGKILL' });
  assert.deepEqual(
    inHost.filter((pid) => existsSync(`/proc/${pid}`)),
    [],
  );
  assert.throws(() => b.spawn(['true']), { code: 'unreachable' });
  assert.ok(a.running);

  await b.start();
  assert.ok(!existsSync(b.path('/run/understudy/note')));
  assert.equal(readFileSync(b.path('/var/lib/understudy/note'), 'utf8'), 'durable\n');
  assert.equal(await b.virsh('list', '--name'), '');
});

test('labs live side by side; one that is disposed leaves nothing', async () => {
  const network = machineNetwork();
  await using other = await Lab.create({ name: 'side by side', hosts: ['a'], libvirt: false });
  const host = other.host('a');
  assert.notEqual(host.address, a.address);
  const program = host.spawn(['sleep', '1000']);
  const pids = processesBeside((await program.identity()).pid);
  assert.ok(pids.length >= 2);
  assert.notDeepEqual(tracesOf(other.directory), []);

  await other.dispose();
  await program.ended;
  await until(() => tracesOf(other.directory).length === 0, {
    timeoutMs: 5000,
    onTimeout: () => new Error(tracesOf(other.directory).join('; ')),
  });
  assert.deepEqual(
    pids.filter((pid) => existsSync(`/proc/${pid}`)),
    [],
  );
  assert.deepEqual(
    machineNetwork().filter((name) => !network.includes(name) && /^to-|switch|us-/.test(name)),
    [],
  );
  assert.ok(a.running);
});
