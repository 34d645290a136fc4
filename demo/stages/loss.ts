/** Host A dies; the VM goes on at B; A comes back. */
import { duration, timeOfDay } from '../../src/cli/words.ts';
import { sleep } from '../../src/lib/clock.ts';
import { problemsWhileWriting, judgeLoss } from '../checks.ts';
import { INTERVAL_MS, VM, announcedBytes, holdsOnly, inherited, type Scene } from '../scene.ts';
import { TwoRunners } from '../two-runners.ts';

export async function unplannedFailover(scene: Scene): Promise<void> {
  const { a, b, onB, screen, report, cycles, witnessA, witnessB } = scene;
  const wait = Math.floor(scene.random() * INTERVAL_MS);
  screen.underWay(`in ${duration(wait)} host A will die …`);
  await sleep(wait);
  const killedAt = Date.now();
  await a.host.crash();
  await cycles.stop();
  witnessA.poll();
  screen.line(
    `   ${screen.paint('red', 'Host A is dead')}: QEMU, libvirtd, understudyd, all at once, at ${timeOfDay(killedAt)},`,
  );
  screen.note(`${duration(wait)} after the stage before (by the seed).`);
  scene.endLife();
  scene.beginLife(onB);

  const { result, decidedAt } = await scene.act(b, 'unplannedFailover', { ref: VM });
  screen.step('libvirt has started the VM at B', Date.now() - decidedAt);
  const recovered = await scene.recovered(onB, witnessB, decidedAt);
  screen.step('the guest is up at B and writes its first record', recovered.rtoRecordMs);

  const records = await scene.records(onB);
  const kept = inherited(records, scene.past());
  // A point lies between its instant and the end of its cycle; one that was acknowledged by a dying primary, before its death.
  const cycle = cycles.cycles.find(({ sequence, host }) => sequence === result.point && host === 'a');
  const point = { instant: result.instant!, by: cycle === undefined ? killedAt : result.instant! + cycle.cycleMs };
  const loss = judgeLoss(witnessA, kept, point);
  const rpoMs = killedAt - point.instant;
  report.unplannedFailover = {
    point: result.point!,
    instant: point.instant,
    killedAt,
    decidedAt,
    recordsWritten: loss.written,
    recordsKept: kept,
    recordsLost: loss.lost,
    recordsLostBeforeInstant: loss.lostBeforeInstant,
    rpoMs,
    ...recovered,
  };
  const wrong = problemsWhileWriting(await onB.checkInside());
  screen.note(
    `point ${result.point}: ${duration(rpoMs)} before the kill; written ${loss.written}, there ${kept}, lost ${loss.lost}`,
  );
  scene.check(
    wrong.length === 0,
    `check-records inside: ${wrong.join('; ') || 'no gap, no bad checksum, on both disks'}`,
  );
  scene.check(loss.lostBeforeInstant === 0, 'no record complete before the instant of the point is lost');
  scene.check(loss.fromTheFuture === 0, 'no record begun after the point is there: it is that moment, on both disks');
  scene.check(rpoMs <= 2 * INTERVAL_MS, `RPO ${duration(rpoMs)}: not older than two intervals`);
  const [total, ours] = [records.vda.length, holdsOnly(records, scene.now())];
  scene.check(ours && total > kept, `the guest writes on at B, from record ${kept + 1}`);
  screen.note(
    `RTO ${duration(recovered.rtoRecordMs)}: from the command to the first new record (asking the dead host and an emulated boot included)`,
  );
}

export async function hostReturns(scene: Scene): Promise<void> {
  const { a, b, onA, screen, report } = scene;
  const before = announcedBytes(onA);
  scene.runners = new TwoRunners(a.host, b.host, VM);
  const began = performance.now();
  await a.host.start();
  screen.step('power is back: host A boots, libvirtd starts', performance.now() - began);
  await a.start();
  const answered = performance.now();
  await a.waitFor(VM, 'stepped down', ({ state }) => state === 'SteppedDown', 30_000);
  const steppedDownAfterMs = performance.now() - answered;
  report.hostReturn = { steppedDownAfterMs, samples: 0, overlaps: 0 };
  screen.quote(await a.host.virsh('list', '--all'));
  scene.check(
    steppedDownAfterMs < 10_000,
    `A asked B, learned of the failover and stepped down (${duration(steppedDownAfterMs)} after its daemon was up)`,
  );
  scene.check((await onA.state()) === 'shut off', 'the VM has autostart, and is off on A');
  const said = await a.host.virsh('start', VM).catch((error: Error) => error);
  scene.check(said instanceof Error, 'virsh start on A is refused as well');
  scene.check(announcedBytes(onA) === before, 'no guest has written anything on A since its death');
}
