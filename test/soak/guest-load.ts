/** What a guest feels of a comparison of its disks: 1,500 random writes of 4 KiB a second, alone and while both sides are compared. */
import assert from 'node:assert/strict';
import { fio, type FioJob, type FioResult } from '../../bench/load/fio.ts';
import { summarize } from '../../bench/measure/samples.ts';
import { until } from '../../src/lib/clock.ts';
import type { ReplicatedVm } from '../faults/replicated-vm.ts';
import { VM } from '../faults/vm-hosts.ts';

const RATE = 1500;
/** Bytes at the disk's beginning that hold data: they are read again and again. */
const DATA = 2 * 2 ** 30;
const SECONDS = 8;
const ROUNDS = 5;
/** What it may cost: the 99th percentile so many times as long as without, and no request longer than so many ms. */
const P99_TIMES = 5;
const MAX_MS = 50;
/** For what was written to arrive: the machine may have other things to do, too. */
const PATIENCE_MS = 300_000;

interface Felt {
  readonly alone: FioResult;
  readonly compared: FioResult;
  /** Comparisons that were begun. */
  readonly comparisons: number;
}

/**
 * @returns the figures in words. Fails where the guest gets fewer requests, or waits for longer than it may: by the median of the rounds,
 * and for the longest wait by the best of them, since one stroke of the machine's other work is enough for it.
 */
export async function feltByGuest(vm: ReplicatedVm, progress: (text: string) => void): Promise<string> {
  const job = { socketPath: vm.vms.machines.a.writableSocket(VM), exportName: 'vda', depth: 4 } as const;
  await fio({ ...job, rw: 'write', blockBytes: 2 ** 20, seconds: 0, once: true, bytes: DATA });
  await settled(vm);
  const rounds: Felt[] = [];
  for (let round = 0; round <= ROUNDS; round++) {
    const felt = await once(vm, {
      ...job,
      rw: 'randwrite',
      blockBytes: 4096,
      seconds: SECONDS,
      rate: RATE,
      bytes: DATA,
    });
    const of = ({ iops, p99, max }: FioResult) =>
      `${iops.toFixed(0)}/s, p99 ${p99.toFixed(2)}, max ${max.toFixed(1)} ms`;
    progress(`alone ${of(felt.alone)}; compared ${felt.comparisons} times ${of(felt.compared)}`);
    if (round > 0) rounds.push(felt); // the first one warms up
  }
  const iops = summarize(rounds.map(({ alone, compared }) => compared.iops / alone.iops));
  const p99 = summarize(rounds.map(({ alone, compared }) => compared.p99 / alone.p99));
  const p99Ms = summarize(rounds.map(({ compared }) => compared.p99));
  const max = summarize(rounds.map(({ compared }) => compared.max));
  const maxAlone = summarize(rounds.map((felt) => felt.alone.max));
  const words =
    `a guest's ${RATE} writes/s while ${DATA / 2 ** 30} GiB are compared, median (best) of ${ROUNDS}: ` +
    `${iops.median.toFixed(3)} of the requests, p99 ${p99Ms.median.toFixed(2)} ms = ${p99.median.toFixed(1)} × (${p99.min.toFixed(1)}), ` +
    `max ${max.median.toFixed(0)} ms (${max.min.toFixed(0)}; alone ${maxAlone.median.toFixed(0)}, ${maxAlone.min.toFixed(0)})`;
  // On a machine that has other things to do the disk alone makes requests wait for longer.
  const most = Math.max(MAX_MS, maxAlone.median);
  assert.ok(iops.median >= 0.99 && p99.median <= P99_TIMES && max.min <= most, words);
  return words;
}

/** The same load twice: with replication held, and while one comparison follows another. */
async function once(vm: ReplicatedVm, job: FioJob): Promise<Felt> {
  const { primaries, hypervisor } = vm.host('a').services;
  await primaries.stop(vm.id);
  const alone = await fio(job);
  primaries.start(vm.id);
  await settled(vm);
  await primaries.stop(vm.id);
  const before = vm.count('a', 'comparing');
  const load = fio(job);
  let done = false;
  void load.finally(() => (done = true)).catch(() => undefined); // said by who waits for it
  while (!done) {
    const began = vm.count('a', 'comparing');
    await hypervisor.dropBitmap(VM, vm.record('a').bitmap!);
    primaries.start(vm.id);
    await vm.wait(
      'a comparison',
      () => done || (vm.count('a', 'comparing') > began && vm.record('a').state === 'Replicating'),
    );
    await primaries.stop(vm.id);
  }
  const compared = await load;
  const comparisons = vm.count('a', 'comparing') - before;
  assert.ok(comparisons > 0, 'both sides were compared');
  primaries.start(vm.id);
  await settled(vm);
  return { alone, compared, comparisons };
}

async function settled(vm: ReplicatedVm): Promise<void> {
  const now = Date.now();
  const isThere = (): boolean => {
    vm.host('a').services.primaries.loop(vm.id).wake();
    const { protectedUntil, copy, inFlight, state } = vm.record('a');
    return state === 'Replicating' && copy === null && inFlight === null && (protectedUntil ?? 0) >= now;
  };
  await until(isThere, { timeoutMs: PATIENCE_MS, everyMs: 50, onTimeout: () => new Error('it is not replicated') });
  await vm.host('b').services.replicas.get(vm.id).drained();
}
