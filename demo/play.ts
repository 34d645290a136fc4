/** The stages, in their order. */
import { INTERVAL_MS, type Scene } from './scene.ts';
import { guest, hosts, initialCopy, pairing } from './stages/beginning.ts';
import { comparison, liveCycles } from './stages/cycles.ts';
import { neverTwo, plannedFailover, reverse } from './stages/home.ts';
import { hostReturns, unplannedFailover } from './stages/loss.ts';
import { startRefused, testFailover } from './stages/test-failover.ts';

const COMPARED =
  'The guest is shut down, so that there is a last change; when that has arrived, the images of both sides are compared.';

export async function play(scene: Scene): Promise<void> {
  const { until } = scene.options;
  await scene.stage(
    'Two hosts',
    'Each with its own network, processes, host name, libvirtd and disks. They share nothing but a cable.',
    hosts,
  );
  await scene.stage(
    'A guest on host A',
    'A real Linux, two disks, autostart. Five times a second it writes a numbered, checksummed, timed record to both ' +
      'disks, with fsync, and tells us from outside when it began and when it was done.',
    guest,
  );
  await scene.stage(
    'Pairing',
    'A token that works once; from then on each knows the other’s CA, and nobody else gets a byte.',
    pairing,
  );
  await scene.stage(
    'Replication to host B: initial copy',
    'The guest runs on while its disks are read in slices; one closing cycle makes it a moment that existed.',
    initialCopy,
  );
  await scene.stage(
    'Cycles',
    `Every ${INTERVAL_MS / 1000} s, all disks at one instant. The lag is what a disaster would cost, just before and just after.`,
    liveCycles,
  );
  if (until === 'cycles') return await scene.stage('Are both sides equal?', COMPARED, comparison);

  await scene.stage(
    'Test failover',
    'An isolated copy starts at B from a recovery point, while replication goes on. Nobody but the copy notices.',
    testFailover,
  );
  await scene.stage('By accident', 'Somebody starts the Replica VM at B with virsh.', startRefused);
  if (until === 'test') return await scene.stage('Are both sides equal?', COMPARED, comparison);

  await scene.stage(
    'Host A is lost: unplanned failover',
    'No warning, no last words. Somebody decides; the VM goes on at B from the last point that was acknowledged.',
    unplannedFailover,
  );
  if (until === 'failover') return;

  await scene.stage(
    'Host A comes back',
    'Its VM has autostart, its disks are as they were. It must not become a second copy. From now on both are watched.',
    hostReturns,
  );
  await scene.stage(
    'Reverse replication',
    'A’s record of changes died with it: both sides are compared by digest, and only what differs is sent.',
    reverse,
  );
  await scene.stage(
    'Planned failover home',
    'Shut down at B, send the last change, start at A. Nothing may be lost.',
    plannedFailover,
  );
  await scene.stage('Are both sides equal?', COMPARED, comparison);
  await scene.stage(
    'Were there ever two?',
    'What virsh said on both hosts, five times a second, since A came back.',
    neverTwo,
  );
}
