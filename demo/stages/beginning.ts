/** Two hosts, a guest, trust. */
import { duration } from '../../src/cli/words.ts';
import { until } from '../../src/lib/clock.ts';
import { Failure } from '../../src/model/failure.ts';
import { LabGuest, installGuestFiles } from '../../lab/guest/guest.ts';
import { followCopy } from '../copy-progress.ts';
import { INTERVAL_MS, VM, type Scene } from '../scene.ts';

export async function hosts({ a, b, screen }: Scene): Promise<void> {
  const began = performance.now();
  await Promise.all([a.start(), b.start()]);
  for (const { host } of [a, b]) {
    screen.note(`host ${host.name.toUpperCase()}  ${host.address}  libvirtd, understudyd; files in ${host.directory}`);
  }
  screen.step('both daemons answer', performance.now() - began);
}

export async function guest({ a, b, onA, screen, options, witnessA }: Scene): Promise<void> {
  await LabGuest.define(a.host, {
    name: VM,
    autostart: true,
    vda: { fillerMiB: 64, seed: `a${options.seed}` },
    vdb: { fillerMiB: 32, seed: `b${options.seed}` },
  });
  await installGuestFiles(b.host); // kernel and initrd are files of the host, not of the VM
  const began = performance.now();
  screen.underWay('the guest boots …');
  await onA.start();
  screen.step(`virsh start ${VM}: its agent answers`, performance.now() - began);
  await until(() => witnessA.completed.length > 0, {
    timeoutMs: 30_000,
    onTimeout: () => new Failure('timeout', 'the guest writes no records'),
  });
  screen.note('It writes. Beside its records: 96 MiB of files, and 256 KiB/s rewritten at random on each disk.');
}

export async function pairing(scene: Scene): Promise<void> {
  const { a, b, screen } = scene;
  const began = performance.now();
  await a.pairWith(b);
  screen.step('understudy peer token (B), understudy peer join (A)', performance.now() - began);
  const peer = await a.client.call('peerCheck', { peer: 'b' });
  scene.check(peer.reachable, `A reaches B by mutual TLS, round trip ${duration(peer.roundTripMs)}`);
}

export async function initialCopy(scene: Scene): Promise<void> {
  const { a, screen, report, cycles } = scene;
  const began = performance.now();
  const enabled = await a.client.call('replicationEnable', {
    vm: VM,
    peer: 'b',
    intervalSeconds: INTERVAL_MS / 1000,
    history: 24,
  });
  const copy = await followCopy(scene, a, began);
  await cycles.follow(a);
  const autostart = /Autostart:\s+(\w+)/.exec(await a.host.virsh('dominfo', VM))?.[1];
  report.initialCopy = {
    diskBytes: enabled.disks.reduce((sum, { size }) => sum + size, 0),
    changedBytes: copy.statistics.changedBytes,
    sentBytes: copy.statistics.sentBytes,
    durationMs: performance.now() - began,
  };
  screen.note(`libvirt's autostart: ${autostart}. Who may start the VM after a boot is understudyd's to find out now.`);
}
