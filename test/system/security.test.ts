/** What a host does for its peers only, and for each only what is its own: real daemons, real TLS. The VMs stay off. */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { HostDaemon } from '../../lab/daemons/host-daemon.ts';
import { LabGuest } from '../../lab/guest/guest.ts';
import { Lab } from '../../lab/hosts/lab.ts';
import { openAuthority } from '../../src/security/authority.ts';
import { pointsOf } from './equality.ts';
import { INTERVAL_SECONDS, VM, look } from './two-hosts.ts';

const OTHER_PEER = fileURLToPath(new URL('other-peer.ts', import.meta.url));
const DISKS = { vda: { sizeMiB: 32 }, vdb: { sizeMiB: 32 } };

let lab: Lab;
/** The primary, its Replica server, another peer of that one, and a host that nobody is paired with. */
let a: HostDaemon, b: HostDaemon, c: HostDaemon, d: HostDaemon;

before(async () => {
  lab = await Lab.create({ name: 'security.test', hosts: ['a', 'b', 'c', 'd'] });
  [a, b, c, d] = lab.hosts.map((host) => new HostDaemon(host)) as [HostDaemon, HostDaemon, HostDaemon, HostDaemon];
  await Promise.all([a, b, c, d].map((daemon) => daemon.start()));
  await a.pairWith(b);
  await c.pairWith(b);
  await LabGuest.define(a.host, { name: VM, ...DISKS });
  await LabGuest.define(c.host, { name: VM, ...DISKS });
  await enable(a);
  await a.waitFor(VM, 'replicating', ({ state }) => state === 'Replicating');
});
after(() => lab?.dispose());

const enable = (from: HostDaemon) =>
  from.client.call('replicationEnable', { vm: VM, peer: 'b', intervalSeconds: INTERVAL_SECONDS });

/** What comes of all calls about a's relationship, when another host makes them to b. */
async function asks(other: HostDaemon): Promise<Record<string, string>> {
  const identity = b.host.path('/var/lib/understudy/identity');
  const { caCertificate } = await openAuthority(identity, { hostName: 'b', addresses: [] });
  const { id } = await look(a);
  const argv = [process.execPath, OTHER_PEER, other.host.name, 'b', `${b.host.address}:7443`, id];
  return JSON.parse(await other.host.succeed(argv, { input: caCertificate })) as Record<string, string>;
}

async function assertUntouched(work: () => Promise<void>): Promise<void> {
  const of = async () => {
    const { id, role, epoch, disks, peer, history } = await look(b);
    return { id, role, epoch, disks, peer, history, points: (await pointsOf(b)).map(({ sequence }) => sequence) };
  };
  const before = await of();
  await work();
  assert.deepEqual(await of(), before);
}

test("a peer's relationship doesn't exist for another peer", async () => {
  await assertUntouched(async () => {
    const outcomes = await asks(c);
    assert.equal(Object.keys(outcomes).length, 9);
    for (const [call, outcome] of Object.entries(outcomes)) assert.equal(outcome, 'not-found', call);
  });
});

test('a host that is not paired gets nothing', async () => {
  await assertUntouched(async () => {
    const outcomes = await asks(d);
    for (const [call, outcome] of Object.entries(outcomes)) assert.equal(outcome, 'peer-refused', call);
  });
});

test('a VM whose name the Replica server has is refused in words, and leaves nothing behind', async () => {
  await assertUntouched(async () => {
    await assert.rejects(enable(c), { code: 'already-exists', message: new RegExp(`b has a VM ${VM} `) });
    assert.deepEqual(await c.client.call('replicationList', {}), []);
  });
});
