/**
 * What the demo found, as data: `--json FILE` writes it. Times are ms since the epoch by this machine's clock, durations
 * ms, sizes bytes. What a run didn't come to is null.
 */
import type { FailureJson } from '../src/model/failure.ts';
import type { End } from './options.ts';

export interface Report {
  readonly version: 1;
  readonly seed: number;
  readonly until: End;
  readonly startedAt: number;
  readonly intervalMs: number;
  durationMs: number;
  readonly stages: { readonly name: string; readonly durationMs: number }[];
  initialCopy: InitialCopy | null;
  /** All that were seen, on either host. */
  cycles: readonly Cycle[];
  testFailover: TestFailover | null;
  /** What libvirt said to `virsh start` of the Replica VM. */
  startRefusal: string | null;
  unplannedFailover: UnplannedFailover | null;
  hostReturn: HostReturn | null;
  reverse: Reverse | null;
  plannedFailover: PlannedFailover | null;
  readonly comparisons: Comparison[];
  readonly checks: Check[];
  /** What ended the demo early. */
  failure: FailureJson | null;
}

export interface Check {
  readonly stage: string;
  readonly ok: boolean;
  readonly text: string;
}

export interface InitialCopy {
  readonly diskBytes: number;
  readonly changedBytes: number;
  readonly sentBytes: number;
  readonly durationMs: number;
}

export interface Cycle {
  readonly host: string;
  /** Of the log that it made, or of the last one where nothing had changed. */
  readonly sequence: number;
  readonly changedBytes: number;
  readonly sentBytes: number;
  /** How long the point in time was held open. */
  readonly jobMs: number;
  /** From its beginning to the acknowledgement. */
  readonly cycleMs: number;
  /** The largest since the cycle before. */
  readonly lagBeforeMs: number;
  readonly lagAfterMs: number;
  readonly seenAt: number;
}

export interface TestFailover {
  readonly point: number;
  readonly instant: number;
  /** From the command to the guest agent's answer. */
  readonly upAfterMs: number;
  /** Records that it found on its disks. */
  readonly records: number;
  readonly cyclesMeanwhile: number;
}

export interface UnplannedFailover {
  readonly point: number;
  readonly instant: number;
  readonly killedAt: number;
  readonly decidedAt: number;
  /** Complete on both disks before the host died. */
  readonly recordsWritten: number;
  readonly recordsKept: number;
  readonly recordsLost: number;
  /** Of those lost, complete before the point's instant: there may be none. */
  readonly recordsLostBeforeInstant: number;
  /** killedAt − instant. */
  readonly rpoMs: number;
  /** From the command to the agent's answer (null: libvirt lost it), and to the first new record. */
  readonly rtoAgentMs: number | null;
  readonly rtoRecordMs: number;
}

export interface HostReturn {
  /** From its daemon's answer to its being stepped down. */
  readonly steppedDownAfterMs: number;
  /** From its return to the end of the demo. */
  samples: number;
  /** Samples in which the VM ran on both hosts. */
  overlaps: number;
}

export interface Reverse {
  readonly blocksCompared: number;
  readonly blocksDifferent: number;
  readonly changedBytes: number;
  readonly sentBytes: number;
  readonly durationMs: number;
}

export interface PlannedFailover {
  readonly recordsWritten: number;
  readonly recordsKept: number;
  readonly recordsLost: number;
  /** From the command to the agent's answer (null: libvirt lost it), and to the first new record. */
  readonly rtoAgentMs: number | null;
  readonly rtoRecordMs: number;
}

export interface Comparison {
  readonly disk: string;
  /** What the primary's image was compared with. */
  readonly with: string;
  readonly equal: boolean;
  /** qemu-img's own. */
  readonly words: string;
}

export function newReport(seed: number, until: End, intervalMs: number): Report {
  return {
    version: 1,
    seed,
    until,
    startedAt: Date.now(),
    intervalMs,
    durationMs: 0,
    stages: [],
    initialCopy: null,
    cycles: [],
    testFailover: null,
    startRefusal: null,
    unplannedFailover: null,
    hostReturn: null,
    reverse: null,
    plannedFailover: null,
    comparisons: [],
    checks: [],
    failure: null,
  };
}

/** Whether all held. */
export function isGood(report: Report): boolean {
  return report.failure === null && report.checks.every(({ ok }) => ok);
}
