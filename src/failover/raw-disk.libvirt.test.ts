/**
 * Raw disks put under tracking and given back on a real libvirt, and what people do to the VM in between. That libvirt may be too old to track
 * them: what is done to its definitions is the same.
 */
import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Lab } from '../../lab/hosts/lab.ts';
import type { DefineRequest } from '../hypervisor/hypervisor.ts';
import { LibvirtHypervisor } from '../hypervisor/libvirt/libvirt.ts';
import { Journal } from '../journal/journal.ts';
import { runPlan, type PlanDefinition } from '../journal/runner.ts';
import { silentLog } from '../lib/log.ts';
import { MiB, pattern } from '../qemu/testing.ts';
import { TRACKING_SUFFIX } from '../qemu/tracking-image.ts';
import { rawUnder, trackingImageUnder, trackRawDisk, untrackRawDisk } from './raw-disk.ts';
import type { FailoverServices } from './services.ts';

const VM = '77777777-2222-4333-8444-555555555555';
const SIZE = MiB;

/** No guest: QEMU finds nothing to boot. With all that a definition may say of a raw disk. */
const definition = (raw: string): string => `<domain type='qemu'>
  <name>db</name><uuid>${VM}</uuid><memory unit='MiB'>16</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type></os>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw' cache='none' discard='unmap'/>
      <source file='${raw}'/><target dev='vda' bus='virtio'/><serial>DB-1</serial><boot order='1'/>
    </disk>
    <graphics type='vnc' port='-1' autoport='yes' passwd='geheim'/>
    <video><model type='none'/></video><memballoon model='none'/>
  </devices>
</domain>`;

/** Somebody starts the VM in the moment before it is defined anew. */
class HastyHypervisor extends LibvirtHypervisor {
  isHasty = false;

  override async define(request: DefineRequest): Promise<void> {
    if (this.isHasty) await this.start(VM);
    this.isHasty = false;
    await super.define(request);
  }
}

describe('a raw disk on libvirt', () => {
  const directory = mkdtempSync(join(tmpdir(), 'us-raw-'));
  const images = join(directory, 'images');
  const raw = join(directory, 'images/vda.raw');
  const image = `${raw}${TRACKING_SUFFIX}`;
  const bytes = pattern(SIZE, 5);
  let lab: Lab;
  let hypervisor: HastyHypervisor;
  let journal: Journal;
  const virsh = (...args: string[]) => lab.host('a').virsh(...args);
  const asDefined = () => virsh('dumpxml', '--inactive', '--security-info', 'db');

  before(async () => {
    lab = await Lab.create({ name: 'raw-disk.libvirt.test', hosts: ['a'] });
    const { libvirtSocket: socketPath } = lab.host('a');
    hypervisor = new HastyHypervisor({ socketPath, pointDirectory: join(directory, 'p'), log: silentLog() });
    journal = await Journal.open(join(directory, 'journal'));
    mkdirSync(images);
    writeFileSync(raw, bytes);
    // An old libvirt doesn't see to the rights of the disk under the image.
    for (const [path, mode] of [
      [directory, 0o711],
      [images, 0o777],
      [raw, 0o666],
    ] as const)
      chmodSync(path, mode);
    await lab.host('a').define(definition(raw));
    await virsh('autostart', 'db');
  });
  after(async () => {
    await hypervisor?.close();
    await lab?.dispose();
    rmSync(directory, { recursive: true, force: true });
  });

  async function carryOut(plan: PlanDefinition<FailoverServices>): Promise<void> {
    const begun = await journal.begin(plan, { relationship: VM, args: { vmId: VM, target: 'vda', raw, image } });
    const services: Pick<FailoverServices, 'hypervisor'> = { hypervisor }; // all that it asks for
    await runPlan(journal, plan, begun, services as FailoverServices);
  }

  async function assertPlain(before: string): Promise<void> {
    assert.equal(await asDefined(), before);
    assert.deepEqual(readdirSync(images), ['vda.raw']);
    assert.ok(readFileSync(raw).equals(bytes));
  }

  test('there and back the definition is the same, to the letter, with its password', async () => {
    const before = await asDefined();
    assert.match(before, /geheim/);
    await carryOut(trackRawDisk);
    const wanted = before.replace("type='raw'", "type='qcow2'").replace(raw, image);
    assert.equal(await asDefined(), wanted);
    await virsh('start', 'db');
    assert.match(await virsh('domblklist', 'db'), /vda\.raw\.understudy\.qcow2$/m);
    await assert.rejects(carryOut(untrackRawDisk), { code: 'vm-running' });
    assert.equal(await asDefined(), wanted, 'of one that runs nothing is changed');
    await virsh('destroy', 'db');
    await carryOut(untrackRawDisk);
    await assertPlain(before);
    assert.equal((await hypervisor.getVm(VM)).autostart, true);
  });

  test('started in the moment in between, it stays on the raw disk, also at its next start', async () => {
    const before = await asDefined();
    hypervisor.isHasty = true;
    await assert.rejects(carryOut(trackRawDisk), { code: 'vm-running' });
    assert.match(await virsh('domblklist', 'db'), /vda\.raw$/m);
    await assertPlain(before);
    await virsh('destroy', 'db');
  });

  test('another VM that has the raw disk is not started beside one that runs on its image', async () => {
    await carryOut(trackRawDisk);
    await lab.host('a').define(definition(raw).replace('>db<', '>twin<').replace(VM, VM.replace('7', '8')));
    await virsh('start', 'db');
    await assert.rejects(virsh('start', 'twin'), /lock/);
    await virsh('undefine', 'twin');
    await virsh('destroy', 'db');
    await carryOut(untrackRawDisk);
  });

  test('under a snapshot of somebody the tracking image is still found', async () => {
    await carryOut(trackRawDisk);
    const [plain] = (await hypervisor.getVm(VM)).disks;
    assert.deepEqual([await rawUnder(plain!), await trackingImageUnder(plain!)], [raw, undefined]);
    await virsh('start', 'db');
    await virsh('snapshot-create-as', 'db', 's1', '--disk-only', '--no-metadata');
    const [covered] = (await hypervisor.getVm(VM)).disks;
    assert.deepEqual([await rawUnder(covered!), await trackingImageUnder(covered!)], [undefined, image]);
    await virsh('blockcommit', 'db', 'vda', '--active', '--pivot', '--wait');
    await virsh('destroy', 'db');
    await carryOut(untrackRawDisk);
    assert.equal(await trackingImageUnder({ path: '/nowhere', format: 'qcow2' }), undefined);
    rmSync(covered!.path);
  });

  test('memory that was saved stays, and the disk with it', async () => {
    const before = await asDefined();
    await virsh('start', 'db');
    await virsh('managedsave', 'db');
    await assert.rejects(carryOut(trackRawDisk), { code: 'wrong-state', message: /memory of VM db was saved/ });
    await assertPlain(before);
    assert.match(await virsh('list', '--all', '--with-managed-save', '--name'), /^db$/m);
  });
});
