/** What libvirt's driver does beyond the port's conformance: other users of the same libvirt, crashes, overlays, definitions. */
import assert from 'node:assert/strict';
import { chmodSync, existsSync, mkdirSync, readFileSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { Copy, failure, openWhenReady } from '../../../test/conformance/hypervisor.ts';
import { LibvirtFixture } from '../../../test/conformance/libvirt-fixture.ts';
import { until } from '../../lib/clock.ts';
import { Failure } from '../../model/failure.ts';
import { createImage, imageInfo } from '../../qemu/image.ts';
import type { LibvirtHypervisor } from './libvirt.ts';

const { vmId, vmName } = LibvirtFixture;
const OTHER_ID = '6f1c7c1e-3f4b-4c58-9d55-00000000c0f1';
const [A, B] = ['understudy-a', 'understudy-b'];

describe('VMs under libvirt', () => {
  let fixture: LibvirtFixture;
  let hypervisor: LibvirtHypervisor;
  let targets: readonly string[];
  const virsh = (...args: string[]) => fixture.host.virsh(...args);
  const open = (since: string | null, next: string | null) => openWhenReady(hypervisor, { vmId, targets, since, next });
  const dropAll = async () => {
    for (const { name } of await hypervisor.listBitmaps(vmId)) await hypervisor.dropBitmap(vmId, name);
  };

  before(async () => {
    fixture = await LibvirtFixture.create();
    ({ hypervisor, targets } = fixture);
    await fixture.change();
  });
  after(async () => {
    await fixture?.dispose();
  });

  test('a user sees no checkpoint, before, in and after a point, and no taint', async () => {
    await hypervisor.startBitmap(vmId, targets, A);
    assert.equal(await virsh('checkpoint-list', vmName, '--name'), '');
    await open(A, B);
    assert.equal(await virsh('checkpoint-list', vmName, '--name'), '');
    await hypervisor.closePoint(vmId);
    await hypervisor.dropBitmap(vmId, A);
    assert.equal(await virsh('checkpoint-list', vmName, '--name'), '');
    assert.doesNotMatch(await virsh('dominfo', vmName), /taint/i);
    await dropAll();
  });

  // libvirt would lose the agent for good: see AgentWatch.
  test('no point is opened of a guest that boots until its agent is there', async () => {
    await virsh('destroy', vmName);
    await virsh('start', vmName);
    const request = { vmId, targets, since: null, next: null };
    await assert.rejects(hypervisor.openPoint(request), failure('guest-starting'));
    const point = await openWhenReady(hypervisor, request);
    assert.match(await virsh('dumpxml', vmName), /name='org.qemu.guest_agent.0' state='connected'/);
    assert.equal(point.agentLost, undefined);
    await hypervisor.closePoint(vmId);
  });

  test('a point directory that QEMU’s user can’t get to: the directory in the way is named, nothing is left, and open it works', async () => {
    const closed = join(fixture.directory, 'closed');
    mkdirSync(closed, { mode: 0o700 });
    const barred = fixture.another(join(closed, 'points'));
    const point = () => openWhenReady(barred, { vmId, targets, since: null, next: A });
    await assert.rejects(point(), (error) => {
      assert.ok(failure('no-access')(error) && error instanceof Failure);
      assert.match(error.message, /may not use \/.*closed\/points\/.*\/job\/.*Permission denied/);
      assert.match(error.hint, /^QEMU's user can't pass \/.*\/closed: `chmod o\+x /);
      return true;
    });
    assert.deepEqual(await hypervisor.listBitmaps(vmId), []);
    chmodSync(closed, 0o711);
    await point();
    await barred.closePoint(vmId);
    await barred.dropBitmap(vmId, A);
  });

  test('an inspection tells QEMU’s user, and what others left in a VM from what is ours', async () => {
    const ours = await hypervisor.vmUser();
    await open(null, null); // when its agent is there
    await hypervisor.closePoint(vmId);
    await hypervisor.startBitmap(vmId, targets, A);
    const alone = await hypervisor.inspect(vmId);
    assert.deepEqual(alone, { user: ours, agent: 'connected', foreignCheckpoints: [], foreignBitmaps: [] });
    await virsh('checkpoint-create-as', vmName, 'backup-1');
    assert.deepEqual((await hypervisor.inspect(vmId)).foreignCheckpoints, ['backup-1']);
    await virsh('checkpoint-delete', vmName, 'backup-1');
    await dropAll();
  });

  // QEMU 7.2 died of it: see PointDirectory.prepare.
  test('whoever asks for block devices while points are opened does not kill the guest', async () => {
    const id = await virsh('domid', vmName);
    let asking = true;
    const ask = async () => {
      while (asking) await hypervisor.getVm(vmId);
    };
    const askers = [ask(), ask(), ask()];
    try {
      for (let round = 0; round < 15; round++) {
        await open(null, null);
        await hypervisor.closePoint(vmId);
      }
    } finally {
      asking = false;
      await Promise.all(askers);
    }
    assert.equal(await virsh('domid', vmName), id, 'it is still the same QEMU');
  });

  test('a checkpoint that a crash left in sight is taken out of it, and its bitmap found', async () => {
    await virsh('checkpoint-create-as', vmName, A);
    await virsh('checkpoint-create-as', vmName, 'of-the-user');
    assert.deepEqual(await hypervisor.listBitmaps(vmId), [{ name: A, usable: true }]);
    assert.equal(await virsh('checkpoint-list', vmName, '--name'), 'of-the-user');
    await dropAll();
    assert.deepEqual(await hypervisor.listBitmaps(vmId), []);
    await virsh('checkpoint-delete', vmName, 'of-the-user');
  });

  test("waits for another tool's backup at once, and leaves it alone", async () => {
    await hypervisor.startBitmap(vmId, targets, A);
    const backup = join(fixture.directory, 'other-backup.xml');
    writeFileSync(backup, otherBackup(fixture.directory));
    await virsh('backup-begin', vmName, backup);
    const begun = performance.now();
    await assert.rejects(open(A, B), failure('job-conflict'));
    assert.ok(performance.now() - begun < 5000);
    await hypervisor.closePoint(vmId);
    assert.match(await virsh('domjobinfo', vmName), /Backup/);
    await virsh('domjobabort', vmName);
    await until(async () => /None/.test(await virsh('domjobinfo', vmName)), {
      timeoutMs: 60_000,
      onTimeout: () => new Error('the other backup does not end'),
    });
    await open(A, B);
    await hypervisor.closePoint(vmId);
    await dropAll();
  });

  test('libvirtd killed in an open point: the call under way fails, the point is ended later', async () => {
    const copy = new Copy();
    await copy.follow(await open(null, A));
    await hypervisor.closePoint(vmId);
    await open(A, B);
    await fixture.host.stopLibvirtd('SIGKILL');
    await assert.rejects(hypervisor.closePoint(vmId), failure('libvirt-down'));
    await assert.rejects(hypervisor.listVms(), failure('libvirt-down'));
    await fixture.host.startLibvirtd();
    await hypervisor.closePoint(vmId);
    assert.match(await virsh('domjobinfo', vmName), /None/);
    await hypervisor.dropBitmap(vmId, B);
    await fixture.change();
    await copy.followAndCompare(await open(A, B));
    await hypervisor.closePoint(vmId);
    await dropAll();
  });

  test('what a libvirtd leaves that ended while a backup was being begun is said with its cure, which works', async () => {
    const copy = new Copy();
    await copy.follow(await open(null, A));
    await hypervisor.closePoint(vmId);
    await fixture.host.stopLibvirtd('SIGKILL');
    const status = fixture.host.path(`/run/libvirt/qemu/${vmName}.xml`);
    const job = `\n  <job type='none' async='backup' flags='0x0' asyncStarted='${Date.now()}'/>`;
    const xml = readFileSync(status, 'utf8').replace(/\n *<job [^>]*>/, '');
    writeFileSync(status, xml.replace(/\n *<devices>/, `${job}$&`));
    await fixture.host.startLibvirtd();
    await assert.rejects(
      hypervisor.openPoint({ vmId, targets, since: A, next: B }),
      ({ code, message, hint }: Failure) =>
        code === 'job-conflict' &&
        /libvirt has no data of/.test(message) &&
        /switch .* off .* restart libvirtd, and start/.test(hint),
    );
    await fixture.change();
    const off = 'read -r pid <"$1"; kill "$pid"; while kill -0 "$pid" 2>/dev/null; do sleep 0.05; done';
    await fixture.host.succeed(['sh', '-c', off, 'sh', `/run/libvirt/qemu/${vmName}.pid`]);
    await fixture.host.stopLibvirtd('SIGKILL'); // told to end, it waits for what waits for that job
    await fixture.host.startLibvirtd();
    // A libvirtd that has just begun believes for a moment that the VM runs.
    await until(async () => (await hypervisor.getVm(vmId)).state === 'off', {
      timeoutMs: 20_000,
      onTimeout: () => new Error('libvirt believes that the VM runs'),
    });
    assert.ok((await copy.followAndCompare(await open(A, null))) > 0);
    await hypervisor.closePoint(vmId);
    await virsh('start', vmName);
    assert.match(await virsh('domjobinfo', vmName), /None/);
    await dropAll();
  });

  test('scratch files and sockets do not pile up', async () => {
    for (let round = 0; round < 3; round++) {
      await open(null, null);
      await hypervisor.closePoint(vmId);
    }
    await open(null, null);
    const files = readdirSync(join(fixture.directory, 'points', vmId, 'job'));
    assert.equal(files.length, targets.length + 1, files.join(' '));
    await hypervisor.closePoint(vmId);
  });

  test('a bitmap whose name got lost is found again: by name at once, by list once the VM is off', async () => {
    await hypervisor.startBitmap(vmId, targets, A);
    rmSync(join(fixture.directory, 'points', vmId, 'bitmaps.json'));
    const restarted = fixture.another();
    assert.deepEqual(await restarted.listBitmaps(vmId), []);
    await restarted.startBitmap(vmId, targets, A);
    assert.deepEqual(await restarted.listBitmaps(vmId), [{ name: A, usable: true }]);
    rmSync(join(fixture.directory, 'points', vmId, 'bitmaps.json'));
    await hypervisor.destroy(vmId);
    const again = fixture.another();
    assert.deepEqual(await again.listBitmaps(vmId), [{ name: A, usable: true }]);
    await again.start(vmId);
    assert.deepEqual(await again.listBitmaps(vmId), [{ name: A, usable: true }]);
    await again.dropBitmap(vmId, A);
    assert.deepEqual((await imageInfo(fixture.disk('vda'), { format: 'qcow2', inUse: true })).bitmaps, []);
    hypervisor = again;
  });

  test("a user's snapshot between two points loses nothing, on or off, and is merged by commitOverlays", async () => {
    await fixture.change();
    const copy = new Copy();
    await copy.follow(await open(null, A));
    await hypervisor.closePoint(vmId);
    await fixture.change();
    await virsh('snapshot-create-as', vmName, 'users', '--disk-only', '--no-metadata');
    await fixture.change();
    const vm = await hypervisor.getVm(vmId);
    assert.ok(vm.disks.every((disk) => disk.path.endsWith('.users')));
    const live = await open(A, B);
    assert.ok((await copy.followAndCompare(live)) > 0);
    await hypervisor.closePoint(vmId);
    // B was made in the overlay; another one, that spans both images, is read while the VM is off
    await hypervisor.destroy(vmId);
    const off = await open(A, null);
    assert.ok((await copy.followAndCompare(off)) > 0);
    await hypervisor.closePoint(vmId);
    await hypervisor.dropBitmap(vmId, B);
    await hypervisor.start(vmId);
    await fixture.change();

    await hypervisor.commitOverlays(vmId, targets);
    await hypervisor.commitOverlays(vmId, targets); // done already: no error
    const merged = (await hypervisor.getVm(vmId)).disks.map((disk) => disk.path);
    assert.deepEqual(
      merged,
      targets.map((target) => fixture.disk(target)),
    );
    assert.deepEqual(new Set((await virsh('domblklist', vmName, '--inactive')).match(/\S+\.users/g)), new Set());
    await fixture.change();
    assert.ok((await copy.followAndCompare(await open(A, null))) > 0); // A has seen it all
    await hypervisor.closePoint(vmId);
    await dropAll();
  });

  test('commits the overlays of a powered-off VM', async () => {
    await fixture.change();
    await hypervisor.destroy(vmId);
    const definition = await hypervisor.exportDefinition(vmId);
    const disks = new Map(targets.map((target) => [target, { path: overlay(target), format: 'qcow2' as const }]));
    for (const target of targets) {
      const backing = { path: fixture.disk(target), format: 'qcow2' } as const;
      await createImage(overlay(target), (await imageInfo(backing.path, backing)).size, { format: 'qcow2', backing });
    }
    await hypervisor.define({ definition, id: vmId, name: vmName, disks, otherDisks: 'keep', network: 'as-defined' });
    await hypervisor.start(vmId);
    await fixture.change();
    await hypervisor.destroy(vmId);
    const copy = new Copy();
    await copy.follow(await open(null, null));
    await hypervisor.closePoint(vmId);
    await hypervisor.commitOverlays(vmId, targets);
    await hypervisor.commitOverlays(vmId, targets);
    assert.deepEqual(
      (await hypervisor.getVm(vmId)).disks.map((disk) => disk.path),
      targets.map((target) => fixture.disk(target)),
    );
    for (const target of targets) rmSync(overlay(target));
    const merged = new Copy();
    await merged.follow(await open(null, null));
    await hypervisor.closePoint(vmId);
    for (const target of targets) assert.ok(merged.contents.get(target)!.equals(copy.contents.get(target)!), target);
  });

  const overlay = (target: string) => join(fixture.directory, `${target}-overlay.qcow2`);

  test('defines, renames and undefines VMs; disks are never touched', async () => {
    const definition = await hypervisor.exportDefinition(vmId);
    const path = join(fixture.directory, 'other.qcow2');
    await createImage(path, 1 << 20, { format: 'qcow2' });
    const request = {
      definition,
      id: OTHER_ID,
      name: 'other',
      disks: new Map([['vda', { path, format: 'qcow2' as const }]]),
      otherDisks: 'remove',
      network: 'disconnected',
    } as const;
    await hypervisor.define(request);
    await hypervisor.define(request); // replaces its own
    const { state, disks } = await hypervisor.getVm(OTHER_ID);
    assert.equal(state, 'off');
    assert.deepEqual(disks, [{ target: 'vda', path, format: 'qcow2', size: 1 << 20 }]);
    await assert.rejects(hypervisor.define({ ...request, id: OTHER_ID.replace(/1$/, '2') }), failure('already-exists'));

    await hypervisor.setAutostart(OTHER_ID, true);
    await hypervisor.define({ ...request, name: 'renamed' });
    const renamed = await hypervisor.getVm(OTHER_ID);
    assert.deepEqual([renamed.name, renamed.autostart], ['renamed', true]);
    assert.match(await virsh('dumpxml', 'renamed', '--inactive'), /<link state='down'\/>/);
    await assert.rejects(hypervisor.define({ ...request, name: vmName }), failure('already-exists'));
    assert.equal((await hypervisor.getVm(OTHER_ID)).name, 'renamed'); // and is still there

    await hypervisor.undefine(OTHER_ID);
    await hypervisor.undefine(OTHER_ID);
    await assert.rejects(hypervisor.getVm(OTHER_ID), failure('not-found'));
    assert.ok(existsSync(path));
    await hypervisor.start(vmId);
    await assert.rejects(hypervisor.undefine(vmId), failure('vm-running'));
  });

  test('links of a running VM go down, and come back as they are defined', async () => {
    const links = async () => (await virsh('dumpxml', vmName)).match(/<link state='\w+'\/>/g) ?? [];
    await hypervisor.setNetwork(vmId, 'disconnected');
    assert.deepEqual(await links(), ["<link state='down'/>"]);
    await hypervisor.setNetwork(vmId, 'disconnected');
    await hypervisor.setNetwork(vmId, 'as-defined');
    assert.deepEqual(await links(), ["<link state='up'/>"]);
  });

  test('a secret that this host would need for a TPM, and has not, is named', async () => {
    const secret = '5f0c1f5e-6a3b-4d0e-9c3e-0123456789ab';
    const tpm = `<tpm model='tpm-crb'><backend type='emulator'><encryption secret='${secret}'/></backend></tpm>`;
    const definition = (await hypervisor.exportDefinition(vmId)).replace('</devices>', `${tpm}$&`);
    const lacking = async () => (await hypervisor.lackingFor(definition)).filter((one) => one.startsWith('secret'));
    assert.deepEqual(await lacking(), [`secret ${secret}`]);
    const file = join(fixture.directory, 'secret.xml');
    writeFileSync(file, `<secret><uuid>${secret}</uuid><usage type='vtpm'><name>web</name></usage></secret>`);
    await virsh('secret-define', file);
    assert.deepEqual(await lacking(), []);
    await virsh('secret-undefine', secret);
  });

  test('a machine type that this host does not know is said with its cure, and nothing is defined', async () => {
    const definition = (await hypervisor.exportDefinition(vmId)).replace(/machine='[^']*'/, "machine='pc-i440fx-99.0'");
    assert.ok((await hypervisor.lackingFor(definition)).some((one) => one.startsWith('machine type pc-i440fx-99.0')));
    const request = { definition, id: OTHER_ID, name: 'newer', disks: new Map(), network: 'as-defined' } as const;
    await assert.rejects(hypervisor.define({ ...request, otherDisks: 'remove' }), (error: unknown) => {
      assert.ok(error instanceof Failure);
      assert.match(`${error.message} ${error.hint}`, /pc-i440fx-99\.0.* `virsh capabilities`|unsupported.*virsh edit/s);
      return true;
    });
    await assert.rejects(hypervisor.getVm(OTHER_ID), failure('not-found'));
  });

  test('a guest that does not shut down is said so in time', async () => {
    await hypervisor.suspend(vmId); // deaf to agent and button
    const begun = performance.now();
    await assert.rejects(hypervisor.shutdown(vmId, 1500), failure('shutdown-timeout'));
    assert.ok(performance.now() - begun < 5000);
    await hypervisor.resume(vmId);
    await hypervisor.destroy(vmId);
  });
});

/** A pull-mode backup as another tool would open it. */
function otherBackup(directory: string): string {
  const disk = (target: string) => `<disk name='${target}' backup='yes' type='file'>
    <scratch file='${join(directory, `other-${target}`)}'/></disk>`;
  const server = `<server transport='unix' socket='${join(directory, 'other.sock')}'/>`;
  return `<domainbackup mode='pull'>${server}<disks>${disk('vda')}${disk('vdb')}</disks></domainbackup>`;
}
