/** Relationships as text. */
import type { Sent } from '../api/contract.ts';
import type { ReplicationView } from '../api/resources.ts';
import type { Output } from './output.ts';
import { scrubText, verificationText } from './proof-text.ts';
import { sheet, table, type Column } from './table.ts';
import { bytes, duration, progressBar, timeOfDay } from './words.ts';

export type Replication = Sent<ReplicationView>;

const HEALTH_STYLE = { normal: 'green', warning: 'yellow', critical: 'red' } as const;

export const health = (output: Output, { health: level }: Replication): string =>
  output.paint(HEALTH_STYLE[level], level);

/** State, with progress where there is some, and said where it waits for space. */
export function stateText({ state, copy, failure }: Replication): string {
  if (failure?.code === 'no-space') return `${state}, waiting for space`;
  if (failure?.code === 'yielded') return `${state}, left to other programs`;
  if (failure?.code === 'job-conflict') return `${state}, waiting for another program`;
  return copy === null || copy.bytesTotal === 0
    ? state
    : `${state} ${Math.floor((100 * copy.bytesDone) / copy.bytesTotal)} %`;
}

/** How far an initial copy or a comparison is, with a bar. */
export function copyText({ copy }: Replication): string {
  if (copy === null) return '';
  const compared =
    copy.mode === 'compare' ? `, ${copy.blocksCompared} blocks compared, ${copy.blocksDifferent} different` : '';
  return `${progressBar(copy.bytesDone, copy.bytesTotal)} ${bytes(copy.bytesDone)} of ${bytes(copy.bytesTotal)}${compared}`;
}

export function replicationTable(output: Output, replications: readonly Replication[]): string {
  const columns: Column<Replication>[] = [
    { title: 'VM', value: ({ vmName }) => vmName },
    { title: 'ROLE', value: ({ role }) => role },
    { title: 'PEER', value: ({ peer }) => peer },
    { title: 'STATE', value: stateText },
    { title: 'HEALTH', value: (replication) => health(output, replication) },
    { title: 'LAG', value: ({ lagMs }) => duration(lagMs), align: 'right' },
    { title: 'PENDING', value: ({ pendingBytes }) => bytes(pendingBytes), align: 'right' },
    { title: 'CHANGED', value: ({ statistics }) => bytes(statistics.lastChangedBytes), align: 'right' },
    { title: 'SENT', value: ({ statistics }) => bytes(statistics.lastSentBytes), align: 'right' },
    { title: 'EVERY', value: ({ intervalSeconds }) => duration(intervalSeconds * 1000), align: 'right' },
  ];
  return table(replications, columns, 'No replication. Begin with `understudy replication enable VM --peer HOST`.');
}

export function replicationSheet(output: Output, one: Replication): string {
  const { statistics, peerStatus, failure, inFlight } = one;
  return sheet([
    ['VM', `${output.paint('bold', one.vmName)} (${one.vmId}), ${one.vmState ?? 'state unknown'} on this host`],
    ['relationship', one.id],
    ['this host is', `${one.role}; the other side is ${one.peer}`],
    ['state', stateText(one)],
    ['health', [health(output, one), ...one.healthReasons].join('\n')],
    ['in the way', failure === null ? undefined : `${failure.message}\n${failure.hint}`],
    [
      'protected until',
      one.protectedUntil === null ? 'not yet' : `${timeOfDay(one.protectedUntil)}, ${duration(one.lagMs)} ago`,
    ],
    ['comparison', resyncText(one)],
    ['verified', verificationText(one)],
    ['at rest', scrubText(one)],
    ['copy', one.copy === null ? undefined : copyText(one)],
    ['pending', bytes(one.pendingBytes)],
    [
      'in flight',
      inFlight === null
        ? undefined
        : `log ${inFlight.sequence}: ${bytes(inFlight.sentBytes)} of ${bytes(inFlight.totalBytes)} sent`,
    ],
    ['settings', `every ${duration(one.intervalSeconds * 1000)}, ${one.history} recovery points besides the latest`],
    ['read limit', readLimitText(one)],
    ['resync by itself', one.autoResync],
    ['lacking', one.lacking.length === 0 ? undefined : `to run on the Replica server: ${one.lacking.join(', ')}`],
    ['definition', one.definitionPolicy === 'follow' ? "follows the primary's" : 'the Replica VM keeps its own'],
    ['encrypted disks', one.replicaPlaintext ? 'replicated as plain text' : undefined],
    ['fence', fenceText(one)],
    ['disks', one.disks.map(({ target, size, path }) => `${target}  ${bytes(size)}  ${path}`).join('\n')],
    ['position', `epoch ${one.epoch}, log ${one.position.sequence}`],
    [
      'failed over',
      one.failover === null ? undefined : `to the point of ${timeOfDay(one.failover.instant)}; can be cancelled`,
    ],
    ['test VMs', one.testVms.length === 0 ? undefined : one.testVms.map(({ name }) => name).join(', ')],
    ['action', one.action ?? undefined],
    ['clock there', one.clockSkewMs === null ? undefined : skewText(one.clockSkewMs)],
    ['other side', peerStatus === null ? 'not heard of yet' : peerText(peerStatus)],
    [
      'cycles',
      `${statistics.cycles} (${statistics.idleCycles} idle, ${statistics.missedCycles} missed, ${statistics.failedCycles} failed)`,
    ],
    [
      'sent',
      `${bytes(statistics.sentBytes)} for ${bytes(statistics.changedBytes)} changed; ${bytes(statistics.resentBytes)} again; ${bytes(statistics.unchangedBytes)} rewritten as they were: not sent`,
    ],
    [
      'not sent',
      statistics.savedBytes === 0 ? undefined : `${bytes(statistics.savedBytes)} that ${one.peer} had already`,
    ],
    [
      'last cycle',
      `${duration(statistics.lastCycleMs)}; point held open ${duration(statistics.lastJobMs)}, at most ${duration(statistics.maxJobMs)}`,
    ],
    ['enabled', timeOfDay(one.createdAt)],
  ]);
}

/** Undefined where there is none. */
export function readLimitText({ readBytesPerSecond, readIops }: Replication): string | undefined {
  const speed = readBytesPerSecond === 0 ? [] : [`${bytes(readBytesPerSecond)}/s`];
  const limits = [...speed, ...(readIops === 0 ? [] : [`${readIops} reads/s`])];
  return limits.length === 0 ? undefined : limits.join(' and ');
}

/** Why both sides are compared, and what it waits for; undefined where they needn't be. */
function resyncText({ resync, state, vmName }: Replication): string | undefined {
  if (resync === null || state !== 'WaitingForStartResynchronize') return resync?.reason;
  const { beginsAt, reason } = resync;
  const when =
    beginsAt === null
      ? `begin it with \`understudy replication resync ${vmName}\``
      : `it begins at ${timeOfDay(beginsAt)}`;
  return `${reason}\n${when}`;
}

function fenceText({ leaseSeconds, stoppedByLease, leaseLeftMs, peer }: Replication): string | undefined {
  if (leaseSeconds === 0) return undefined;
  const lease = `lease of ${duration(leaseSeconds * 1000)}`;
  if (stoppedByLease) return `${lease}: over, the VM is stopped until ${peer} answers`;
  if (leaseLeftMs === null) return `${lease}: without an answer of ${peer} for so long the VM stops`;
  return leaseLeftMs === 0
    ? `${lease}: surely over`
    : `${lease}: a failover waits ${duration(leaseLeftMs)} before it starts the VM`;
}

function skewText(ms: number): string {
  if (Math.abs(ms) < 1000) return 'the same as here, within a second';
  return `${duration(Math.abs(ms))} ${ms > 0 ? 'ahead of' : 'behind'} this host's`;
}

function peerText(peer: NonNullable<Replication['peerStatus']>): string {
  if (!peer.reachable) return `not reachable at ${timeOfDay(peer.checkedAt)}`;
  const vm = `${peer.vmRunning === true ? ', VM runs there' : ''}${peer.suspended === true ? ', paused there' : ''}`;
  return `${peer.role ?? 'no role'}, ${peer.state ?? 'state unknown'}, received ${peer.receivedSequence ?? '-'}, applied ${peer.appliedSequence ?? '-'}${vm}`;
}

/** One line of a log that is read as it grows. */
export function replicationLine(one: Replication): string {
  const parts = [timeOfDay(Date.now()), one.vmName, stateText(one), one.health, `lag ${duration(one.lagMs)}`];
  const { lastChangedBytes, lastSentBytes } = one.statistics;
  return [...parts, `changed ${bytes(lastChangedBytes)}`, `sent ${bytes(lastSentBytes)}`].join('  ');
}
