import assert from 'node:assert/strict';
import { mkdtemp, open as openFile, readdir, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { Failure } from '../../model/failure.ts';
import { allExtents, dirtyExtents } from '../../qemu/disk.ts';
import { BASE_ALLOCATION } from '../../qemu/nbd/wire.ts';
import { compareImages, createImage, imageInfo } from '../../qemu/image.ts';
import { NbdClient } from '../../qemu/nbd/client.ts';
import { bitmapMissing, type Point, type PointExport } from '../hypervisor.ts';
import { QsdHost } from './host.ts';
import { QsdHypervisor } from './qsd.ts';

const MIB = 1024 * 1024;
const SIZE = 16 * MIB;
const CLUSTER = 65_536;
const VM = '11111111-2222-4333-8444-555555555555';
const TARGETS = ['vda', 'vdb'];
const B1 = 'understudy-1';
const B2 = 'understudy-2';
const failing = (code: string) => (error: unknown) => error instanceof Failure && error.code === code;

let root: string;
let directory: string;
let host: QsdHost;
let hypervisor: QsdHypervisor;
let rounds = 0;

const image = (target: string) => join(directory, `${target}.qcow2`);
function openHost(): void {
  host = new QsdHost({ directory: join(directory, 'vms'), runDirectory: join(directory, 'run') });
  hypervisor = new QsdHypervisor(host);
}

async function defineVm(
  paths: Readonly<Record<string, string>> = {},
  format: 'qcow2' | 'raw' = 'qcow2',
): Promise<void> {
  const disks = TARGETS.map((target) => ({ target, path: paths[target] ?? image(target), format }));
  const definition = JSON.stringify({ id: VM, name: 'web', disks, network: 'connected' });
  const request = {
    definition,
    id: VM,
    name: 'web',
    disks: new Map(),
    otherDisks: 'keep',
    network: 'as-defined',
  } as const;
  await hypervisor.define(request);
}

/** Writes as the guest does. */
async function guestWrites(target: string, offset: number, byte: number, length = CLUSTER): Promise<void> {
  const client = await NbdClient.connect({ socketPath: host.writableSocket(VM), exportName: target });
  await client.write(offset, Buffer.alloc(length, byte));
  await client.flush();
  await client.close();
}

function exportOf(point: Point, target: string): PointExport {
  return point.exports.find((candidate) => candidate.target === target)!;
}

/** Offsets of the dirty clusters of a disk of an open point, and the first byte of each. */
async function dirty(point: Point, target: string): Promise<[number, number][]> {
  const { socketPath, exportName, dirtyContext, size } = exportOf(point, target);
  const client = await NbdClient.connect({ socketPath, exportName, metaContexts: [dirtyContext ?? BASE_ALLOCATION] });
  const found: [number, number][] = [];
  const extents =
    dirtyContext === null
      ? (await allExtents(client, 0, size)).filter(({ zero }) => !zero)
      : await dirtyExtents(client, dirtyContext, 0, size);
  for (const { offset, length } of extents) {
    for (let at = offset; at < offset + length; at += CLUSTER) found.push([at, (await client.read(at, 1))[0]!]);
  }
  await client.close();
  return found;
}

before(async () => {
  root = await mkdtemp(join(tmpdir(), 'us-qsd-'));
});
after(async () => {
  await rm(root, { recursive: true });
});
beforeEach(async () => {
  await host?.close();
  directory = join(root, String(rounds++));
  openHost();
  await hypervisor.listVms(); // makes the directories
  for (const target of TARGETS) await createImage(image(target), SIZE, { format: 'qcow2' });
  await defineVm();
});
after(async () => {
  await host.close();
});

describe('qsd hypervisor: life cycle', () => {
  test('a VM is found by id and by name, runs, pauses, and is off after it was shut down', async () => {
    const vm = await hypervisor.getVm('web');
    assert.deepEqual(vm, await hypervisor.getVm(VM));
    assert.deepEqual([vm.id, vm.name, vm.state, vm.autostart], [VM, 'web', 'off', false]);
    assert.deepEqual(vm.disks, [
      { target: 'vda', path: image('vda'), format: 'qcow2', size: SIZE },
      { target: 'vdb', path: image('vdb'), format: 'qcow2', size: SIZE },
    ]);
    await hypervisor.start(VM);
    await hypervisor.start(VM);
    await guestWrites('vdb', 0, 7);
    assert.equal((await hypervisor.getVm(VM)).state, 'running');
    await hypervisor.suspend(VM);
    assert.equal((await hypervisor.getVm(VM)).state, 'paused');
    await assert.rejects(hypervisor.shutdown(VM, 10), failing('shutdown-timeout'));
    await hypervisor.resume(VM);
    await hypervisor.shutdown(VM, 1000);
    await hypervisor.destroy(VM);
    assert.equal((await hypervisor.getVm(VM)).state, 'off');
    await assert.rejects(hypervisor.getVm('other'), failing('not-found'));
  });

  test('a definition goes to another id with other disks, and keeps autostart when it is replaced', async () => {
    const definition = await hypervisor.exportDefinition(VM);
    const id = '99999999-2222-4333-8444-555555555555';
    const disks = new Map([['vda', { path: '/locked/vda', format: 'qcow2' } as const]]);
    const request = { definition, id, name: 'web-replica', disks, network: 'disconnected' } as const;
    await hypervisor.define({ ...request, otherDisks: 'remove' });
    await hypervisor.setAutostart(id, true);
    await hypervisor.define({ ...request, otherDisks: 'keep' });
    const vm = await hypervisor.getVm(id);
    assert.deepEqual([vm.name, vm.autostart], ['web-replica', true]);
    assert.deepEqual(
      vm.disks.map(({ target, path, size }) => [target, path, size]),
      [
        ['vda', '/locked/vda', 0],
        ['vdb', image('vdb'), SIZE],
      ],
    );
    await assert.rejects(hypervisor.start(id), failing('io'));
    assert.equal((await hypervisor.getVm(id)).state, 'off');
    await hypervisor.undefine(id);
    await hypervisor.undefine(id);
    assert.deepEqual(
      (await hypervisor.listVms()).map((each) => each.id),
      [VM],
    );
    await stat(image('vdb'));
  });
});

describe('qsd hypervisor: tracking', () => {
  test('a point of a running VM shows all disks at one instant, and what changed since a bitmap', async () => {
    await hypervisor.start(VM);
    await guestWrites('vda', 0, 1);
    await hypervisor.startBitmap(VM, TARGETS, B1);
    await hypervisor.startBitmap(VM, TARGETS, B1);
    await guestWrites('vda', 4 * CLUSTER, 2);
    await guestWrites('vdb', 8 * CLUSTER, 3);
    const point = await hypervisor.openPoint({ vmId: VM, targets: TARGETS, since: B1, next: B2 });
    assert.ok(point.instant <= point.instantEnd);
    await guestWrites('vda', 4 * CLUSTER, 9);
    await guestWrites('vdb', 0, 9);
    assert.deepEqual(await dirty(point, 'vda'), [[4 * CLUSTER, 2]]);
    assert.deepEqual(await dirty(point, 'vdb'), [[8 * CLUSTER, 3]]);
    await hypervisor.closePoint(VM);
    await hypervisor.closePoint(VM);
    await hypervisor.dropBitmap(VM, B1);
    const second = await hypervisor.openPoint({ vmId: VM, targets: TARGETS, since: B2, next: null });
    assert.deepEqual(await dirty(second, 'vda'), [[4 * CLUSTER, 9]]);
    assert.deepEqual(await dirty(second, 'vdb'), [[0, 9]]);
    await hypervisor.closePoint(VM);
    assert.deepEqual(await hypervisor.listBitmaps(VM), [{ name: B2, usable: true }]);
    const template = `empty-${SIZE}.qcow2`; // stays, to be copied for the next scratch image
    assert.deepEqual(await readdir(join(directory, 'run')), [`${VM}.nbd`, `${VM}.pid`, template]);
  });

  test('a full point shows everything, also of a raw disk, which can not be tracked', async () => {
    await rm(image('vdb'));
    await createImage(image('vdb'), SIZE, { format: 'raw' });
    await rm(image('vda'));
    await createImage(image('vda'), SIZE, { format: 'raw' });
    await defineVm({}, 'raw');
    await hypervisor.start(VM);
    await guestWrites('vdb', 2 * CLUSTER, 5);
    const point = await hypervisor.openPoint({ vmId: VM, targets: ['vdb'], since: null, next: null });
    const data = (await dirty(point, 'vdb')).filter(([, byte]) => byte !== 0); // a file system may allocate more
    assert.deepEqual(data, [[2 * CLUSTER, 5]]);
    assert.match((await hypervisor.getVm(VM)).disks[1]!.unsupported!, /raw/);
    await assert.rejects(hypervisor.startBitmap(VM, TARGETS, B1), failing('disk-unsupported'));
  });

  test('what was recorded while the VM ran is read when it is off, and recording goes on', async () => {
    await hypervisor.startBitmap(VM, TARGETS, B1);
    await hypervisor.start(VM);
    await guestWrites('vda', CLUSTER, 1);
    await hypervisor.shutdown(VM, 1000);
    const point = await hypervisor.openPoint({ vmId: VM, targets: TARGETS, since: B1, next: B2 });
    assert.deepEqual(await dirty(point, 'vda'), [[CLUSTER, 1]]);
    assert.deepEqual(await dirty(point, 'vdb'), []);
    await assert.rejects(hypervisor.start(VM), failing('busy'));
    await hypervisor.closePoint(VM);
    await hypervisor.dropBitmap(VM, B1);
    await host.close();
    openHost();
    await hypervisor.start(VM);
    await guestWrites('vdb', 3 * CLUSTER, 4);
    const second = await hypervisor.openPoint({ vmId: VM, targets: TARGETS, since: B2, next: null });
    assert.deepEqual(await dirty(second, 'vda'), []);
    assert.deepEqual(await dirty(second, 'vdb'), [[3 * CLUSTER, 4]]);
  });

  test('a bitmap of some disks only is usable, and other names than ours are refused', async () => {
    await hypervisor.startBitmap(VM, ['vdb'], B1);
    assert.deepEqual(await hypervisor.listBitmaps(VM), [{ name: B1, usable: true }]);
    await assert.rejects(hypervisor.startBitmap(VM, ['vdb'], 'backup-1'), failing('bad-request'));
    await assert.rejects(hypervisor.dropBitmap(VM, 'backup-1'), failing('bad-request'));
  });

  test('a guest that dies while a point is open leaves nothing in the way', async () => {
    await hypervisor.start(VM);
    await hypervisor.openPoint({ vmId: VM, targets: TARGETS, since: null, next: B1 });
    await host.crash(VM);
    await hypervisor.closePoint(VM);
    assert.deepEqual(await hypervisor.listBitmaps(VM), [{ name: B1, usable: false, why: bitmapMissing('vda') }]);
    await hypervisor.start(VM);
    await hypervisor.openPoint({ vmId: VM, targets: TARGETS, since: null, next: B1 });
    await hypervisor.shutdown(VM, 1000);
    assert.deepEqual(await hypervisor.listBitmaps(VM), [{ name: B1, usable: true }]);
    const left = await readdir(join(directory, 'run'));
    assert.deepEqual(
      left.filter((name) => name.endsWith('.scratch')),
      [],
    );
  });
});

describe('qsd hypervisor: overlays', () => {
  for (const state of ['running', 'off']) {
    test(`an overlay of a VM that is ${state} is committed with what was recorded, and the VM goes on below`, async () => {
      const overlay = join(directory, 'overlay.qcow2');
      await hypervisor.start(VM);
      await guestWrites('vda', 0, 1);
      await guestWrites('vda', CLUSTER, 1);
      await hypervisor.shutdown(VM, 1000);
      await createImage(overlay, SIZE, { format: 'qcow2', backing: { path: image('vda'), format: 'qcow2' } });
      await defineVm({ vda: overlay });
      await hypervisor.start(VM);
      await guestWrites('vda', 5 * CLUSTER, 2);
      await hypervisor.startBitmap(VM, TARGETS, B1);
      await guestWrites('vda', CLUSTER, 3);
      if (state === 'off') await hypervisor.shutdown(VM, 1000);
      await hypervisor.commitOverlays(VM, TARGETS);
      await hypervisor.commitOverlays(VM, TARGETS);
      assert.equal((await hypervisor.getVm(VM)).disks[0]!.path, image('vda'));
      if (state === 'off') await hypervisor.start(VM);
      await guestWrites('vda', 7 * CLUSTER, 4);
      const point = await hypervisor.openPoint({ vmId: VM, targets: TARGETS, since: B1, next: null });
      const changed = new Map(await dirty(point, 'vda'));
      assert.deepEqual([changed.get(CLUSTER), changed.get(7 * CLUSTER), changed.has(0)], [3, 4, false]);
      await hypervisor.shutdown(VM, 1000);
      assert.equal((await imageInfo(image('vda'), { format: 'qcow2' })).backing, undefined);
      const copy = join(directory, 'expected.raw');
      await createImage(copy, SIZE, { format: 'raw' });
      const expected = await openFile(copy, 'r+');
      for (const [at, byte] of [
        [0, 1],
        [1, 3],
        [5, 2],
        [7, 4],
      ] as const) {
        await expected.write(Buffer.alloc(CLUSTER, byte), 0, CLUSTER, at * CLUSTER);
      }
      await expected.close();
      const result = await compareImages({ path: image('vda'), format: 'qcow2' }, { path: copy, format: 'raw' });
      assert.deepEqual(result, { identical: true });
    });
  }
});
