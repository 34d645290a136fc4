/** The way back: replication reversed, then home without losing anything. */
import { bytes, duration } from '../../src/cli/words.ts';
import { problemsWhileWriting, judgeLoss, overlaps, sentOnlyDifferences } from '../checks.ts';
import { followCopy } from '../copy-progress.ts';
import { VM, announcedBytes, holdsOnly, inherited, type Scene } from '../scene.ts';
import { tellCycles } from './cycles.ts';

/** What is compared at once, bytes. */
const BLOCK = 64 * 1024;

export async function reverse(scene: Scene): Promise<void> {
  const { b, screen, report, cycles } = scene;
  const began = performance.now();
  await scene.act(b, 'reverseReplication', { ref: VM });
  const { statistics, blocksCompared, blocksDifferent } = await followCopy(scene, b, began);
  await cycles.follow(b);
  const { changedBytes, sentBytes } = statistics;
  report.reverse = { blocksCompared, blocksDifferent, changedBytes, sentBytes, durationMs: performance.now() - began };
  screen.note(
    `${blocksCompared} blocks of 64 KiB compared by digest, ${blocksDifferent} different, ${bytes(sentBytes)} sent`,
  );
  const copy = report.initialCopy!;
  const full = { blocks: copy.changedBytes / BLOCK, sentBytes: copy.sentBytes };
  scene.check(
    sentOnlyDifferences(report.reverse, full),
    `only differences were sent; a full copy was ${bytes(copy.sentBytes)}`,
  );
  const quiet = tellCycles(scene);
  await cycles.more(1);
  quiet();
  scene.check((await b.show(VM)).state === 'Replicating', 'B replicates to A now');
}

export async function plannedFailover(scene: Scene): Promise<void> {
  const { a, b, onA, screen, report, cycles, witnessA, witnessB } = scene;
  await cycles.stop();
  const from = announcedBytes(onA);
  const { decidedAt } = await scene.act(b, 'plannedFailover', { ref: VM, start: true, shutdownTimeoutSeconds: 60 });
  scene.endLife();
  scene.beginLife(onA, from);
  const recovered = await scene.recovered(onA, witnessA, decidedAt);
  await cycles.follow(a);
  screen.step('the guest is up at home and writes its first record', recovered.rtoRecordMs);

  witnessB.poll();
  const failedOver = report.unplannedFailover!.decidedAt;
  const away = witnessB.completed.filter(({ seen }) => seen > failedOver);
  const records = await scene.records(onA);
  const kept = inherited(records, scene.past());
  const { written, lost } = judgeLoss({ begun: [], completed: away }, kept, { instant: Infinity, by: Infinity });
  report.plannedFailover = { recordsWritten: written, recordsKept: kept, recordsLost: lost, ...recovered };
  const wrong = problemsWhileWriting(await onA.checkInside());
  screen.note(`written at B: ${written}, up to number ${away.at(-1)?.number}; at home: 1 to ${kept}; lost ${lost}`);
  scene.check(
    wrong.length === 0,
    `check-records inside: ${wrong.join('; ') || 'no gap, no bad checksum, on both disks'}`,
  );
  scene.check(lost === 0 && written > 0, `records lost: ${lost}`);
  const [total, ours] = [records.vda.length, holdsOnly(records, scene.now())];
  scene.check(ours && total > kept, `the guest writes on at A, from record ${kept + 1}`);
  screen.note(
    `RTO ${duration(recovered.rtoRecordMs)}: from the command to the first new record (shutdown and an emulated boot included)`,
  );
  const quiet = tellCycles(scene);
  await cycles.more(1);
  quiet();
  scene.check((await a.show(VM)).state === 'Replicating', 'A replicates to B again: everything is as it was');
}

/** Ends the look-out that began with the return of host A. */
export async function neverTwo(scene: Scene): Promise<void> {
  const { runners, report } = scene;
  await runners!.stop();
  const { samples } = runners!;
  const both = overlaps(samples);
  const answered = samples.filter(({ a, b }) => a !== null && b !== null).length;
  report.hostReturn!.samples = answered;
  report.hostReturn!.overlaps = both;
  const span = duration((samples.at(-1)?.at ?? 0) - (samples[0]?.at ?? 0));
  scene.check(
    both === 0 && answered > 0,
    `never two copies: ${both} overlaps in ${answered} samples of both hosts over ${span}`,
  );
}
