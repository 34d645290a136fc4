/** Cycles, live; and the comparison of what both sides hold. */
import { bytes, duration } from '../../src/cli/words.ts';
import { until } from '../../src/lib/clock.ts';
import { run } from '../../src/lib/process.ts';
import { Failure } from '../../src/model/failure.ts';
import type { Cycle } from '../report.ts';
import { VM, INTERVAL_MS, type Scene } from '../scene.ts';

const LIVE_CYCLES = 4;
/** A guest that goes off while a backup job is open: libvirt waits 30 s at each of its last events. */
const SHUTDOWN_MS = 150_000;

/** One line a cycle, from now on, until it is called off. */
export function tellCycles({ cycles, screen }: Scene): () => void {
  cycles.onCycle = (cycle) => screen.columns(cycleLine(cycle));
  return () => (cycles.onCycle = () => undefined);
}

function cycleLine({ sequence, changedBytes, sentBytes, jobMs, lagBeforeMs, lagAfterMs }: Cycle): string {
  return [
    `log ${String(sequence).padStart(2)}`,
    `changed ${bytes(changedBytes).padStart(8)}`,
    `sent ${bytes(sentBytes).padStart(8)}`,
    `held open ${duration(jobMs).padStart(6)}`,
    `lag ${duration(lagBeforeMs).padStart(5)} → ${duration(lagAfterMs)}`,
  ].join('   ');
}

export async function liveCycles(scene: Scene): Promise<void> {
  const { cycles, b } = scene;
  const quiet = tellCycles(scene);
  const first = cycles.cycles.length;
  await cycles.more(LIVE_CYCLES);
  quiet();
  const seen = cycles.cycles.slice(first);
  const worst = Math.max(...seen.map(({ lagBeforeMs }) => lagBeforeMs));
  scene.check(worst < 2 * INTERVAL_MS, `the lag stayed below two intervals (worst ${duration(worst)})`);
  scene.check((await scene.onA.state()) === 'running', 'the guest ran all the while');
  const points = await b.client.call('pointList', { ref: VM });
  scene.check(points.length > LIVE_CYCLES, `recovery points kept at ${b.host.name.toUpperCase()}: ${points.length}`);
}

/** Shuts the guest down, lets its last change arrive, and compares images. */
export async function comparison(scene: Scene): Promise<void> {
  const { a, b, onA, screen, report } = scene;
  screen.underWay('the power button is pressed …');
  await onA.shutdown(SHUTDOWN_MS);
  const offAt = Date.now();
  screen.underWay('waiting for the cycle that carries the last change …');
  const primary = await a.waitFor(VM, 'quiet', ({ vmState, protectedUntil, inFlight }) => {
    return vmState === 'off' && (protectedUntil ?? 0) > offAt && inFlight === null;
  });
  let replica = await b.show(VM);
  await until(async () => (replica = await b.show(VM)).position.state === primary.position.state, {
    timeoutMs: 30_000,
    onTimeout: () =>
      new Failure('timeout', `b has not applied log ${primary.position.sequence}: ${JSON.stringify(replica)}`),
  });
  const [latest] = await b.client.call('pointList', { ref: VM });
  for (const { target, path } of primary.disks) {
    const image = a.host.path(path);
    const atB = replica.disks.find((disk) => disk.target === target)!;
    const file = `/var/lib/understudy/compare-${target}.qcow2`;
    await b.act('pointExport', { ref: VM, point: latest!.sequence, disk: target, file, format: 'qcow2' });
    for (const [what, other] of [
      ['the replica’s image', b.host.path(atB.path)],
      [`recovery point ${latest!.sequence}, exported`, b.host.path(file)],
    ] as const) {
      // -U: our own daemons may have the images open
      const { code, stdout, stderr } = await run('qemu-img', [
        'compare',
        '-U',
        '-f',
        'qcow2',
        '-F',
        'qcow2',
        image,
        other,
      ]);
      const words = (stdout || stderr).trim();
      report.comparisons.push({ disk: target, with: what, equal: code === 0, words });
      scene.check(code === 0, `qemu-img compare, ${target}, with ${what}: ${words}`);
    }
  }
  if (scene.options.keep) await a.host.virsh('start', VM);
}
