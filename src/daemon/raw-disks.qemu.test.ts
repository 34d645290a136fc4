/** Raw disks of a VM without a guest, as a person asks for their tracking: by the operations, the plans, and the rounds that see it off. */
import assert from 'node:assert/strict';
import { existsSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { trackRawDisk, untrackRawDisk } from '../failover/raw-disk.ts';
import type { FailoverServices } from '../failover/services.ts';
import type { Versions } from '../model/versions.ts';
import { QsdHost } from '../hypervisor/qsd/host.ts';
import { QsdHypervisor } from '../hypervisor/qsd/qsd.ts';
import { Journal } from '../journal/journal.ts';
import { silentLog } from '../lib/log.ts';
import { MiB, pattern, scratchDirectory } from '../qemu/testing.ts';
import { MemoryStore } from '../store/memory/store.ts';
import { Actions } from './actions.ts';
import { defaultConfig } from './config/read.ts';
import { EventFeed } from './event-feed.ts';
import { hostOperations } from './operations/host.ts';
import { rawDiskOperations } from './operations/raw-disks.ts';
import { RawDiskRounds, wishes } from './raw-disks.ts';
import type { DaemonServices } from './services.ts';

const VM = '88888888-2222-4333-8444-555555555555';
const CALL = { signal: new AbortController().signal };

/** As under a libvirt of that version. */
class VersionedHypervisor extends QsdHypervisor {
  libvirt = '11.3.0';

  override async versions(): Promise<Versions> {
    return { libvirt: this.libvirt };
  }
}

async function world(t: TestContext) {
  const directory = await scratchDirectory(t);
  const raw = join(directory, 'vda.raw');
  const bytes = pattern(MiB, 3);
  await writeFile(raw, bytes);
  const machine = new QsdHost({ directory: join(directory, 'vms'), runDirectory: join(directory, 'vm') });
  t.after(() => machine.close());
  const hypervisor = new VersionedHypervisor(machine);
  const disks = [{ target: 'vda', path: raw, format: 'raw' }];
  const definition = JSON.stringify({ id: VM, name: 'db', disks, network: 'connected' });
  const rest = { otherDisks: 'keep', network: 'as-defined', disks: new Map() } as const;
  await hypervisor.define({ definition, id: VM, name: 'db', ...rest });
  const [store, log] = [new MemoryStore(), silentLog()];
  const journal = await Journal.open(join(directory, 'journal'));
  const context = { hypervisor } as unknown as FailoverServices; // all that the plans ask for
  const actions = new Actions({
    journal,
    definitions: [trackRawDisk, untrackRawDisk],
    context,
    log,
    event: () => undefined,
  });
  t.after(() => actions.close());
  const events = new EventFeed(store, log);
  const services = { hypervisor, store, actions, events, log, config: defaultConfig('a') } as unknown as DaemonServices;
  return {
    raw,
    bytes,
    hypervisor,
    services,
    image: `${raw}.understudy.qcow2`,
    ask: rawDiskOperations(services),
    rounds: new RawDiskRounds(services),
    path: async () => (await hypervisor.getVm(VM)).disks[0]!.path,
    told: () => store.events({ limit: 100 }).map(({ kind }) => kind),
  };
}

const DISK = { vm: 'db', disk: 'vda' };

test('of a VM that is off it is done at once, there and back', async (t) => {
  const { ask, path, raw, image, bytes, told } = await world(t);
  await assert.rejects(ask.vmUntrackDisk(DISK, CALL), { code: 'bad-request' });
  const tracked = await ask.vmTrackDisk(DISK, CALL);
  assert.deepEqual(tracked, { id: VM, name: 'db', target: 'vda', raw, image, state: 'tracked' });
  assert.equal(await path(), image);
  assert.deepEqual(await ask.vmTrackDisk(DISK, CALL), tracked, 'asked again');
  assert.equal((await ask.vmUntrackDisk(DISK, CALL)).state, 'plain');
  assert.equal(await path(), raw);
  assert.ok(!existsSync(image));
  assert.ok((await readFile(raw)).equals(bytes));
  assert.deepEqual(told(), ['raw-disk-untracked', 'raw-disk-tracked']);
});

test('of one that runs, when it is seen off; what was asked for last counts', async (t) => {
  const { ask, path, raw, image, hypervisor, rounds, services, told } = await world(t);
  await hypervisor.start(VM);
  assert.equal((await ask.vmTrackDisk(DISK, CALL)).state, 'tracked-at-power-off');
  assert.equal((await ask.vmUntrackDisk(DISK, CALL)).state, 'plain');
  assert.deepEqual(wishes(services), []);
  await ask.vmTrackDisk(DISK, CALL);
  await ask.vmTrackDisk(DISK, CALL);
  assert.deepEqual(wishes(services), [{ vmId: VM, target: 'vda', what: 'track' }]);
  await rounds.look();
  assert.deepEqual([await path(), existsSync(image)], [raw, false], 'nothing is done while it runs');
  const [listed] = await hostOperations(services).vmList({}, CALL);
  assert.equal(listed!.reason, 'vda: raw images hold no bitmaps; it is put under tracking when the VM is off');
  await hypervisor.shutdown(VM, 1000);
  await rounds.look();
  assert.equal(await path(), image);
  assert.deepEqual(wishes(services), []);
  await hypervisor.start(VM);
  assert.equal((await ask.vmUntrackDisk(DISK, CALL)).state, 'plain-at-power-off');
  assert.equal((await ask.vmTrackDisk(DISK, CALL)).state, 'tracked', 'to have it back');
  assert.deepEqual(wishes(services), []);
  await ask.vmUntrackDisk(DISK, CALL);
  await hypervisor.shutdown(VM, 1000);
  await rounds.look();
  assert.equal(await path(), raw);
  assert.deepEqual(told(), ['raw-disk-untracked', 'raw-disk-tracked']);
});

test('what stands in the way is told once, and the VM stays as it is; a VM that is gone is forgotten', async (t) => {
  const { ask, path, raw, hypervisor, rounds, services, told } = await world(t);
  await hypervisor.start(VM);
  await ask.vmTrackDisk(DISK, CALL);
  await hypervisor.shutdown(VM, 1000);
  hypervisor.libvirt = '9.0.0'; // another one was installed meanwhile
  await rounds.look();
  await new RawDiskRounds(services).look();
  await rounds.look();
  assert.equal(await path(), raw);
  assert.equal(wishes(services).length, 1);
  assert.deepEqual(told(), ['raw-disk-held-up', 'raw-disk-held-up'], 'once by each');
  await hypervisor.undefine(VM);
  await new RawDiskRounds(services).look();
  assert.deepEqual(wishes(services), []);
});

test('what isn’t to be done is refused in words', async (t) => {
  const { ask, hypervisor } = await world(t);
  await assert.rejects(ask.vmTrackDisk({ vm: 'db', disk: 'vdx' }, CALL), { code: 'not-found' });
  hypervisor.libvirt = '9.0.0';
  await assert.rejects(ask.vmTrackDisk(DISK, CALL), {
    code: 'disk-unsupported',
    hint: /from libvirt 10\.10 on \(here it is 9\.0\.0\).*virsh blockcopy db vda/,
  });
});
