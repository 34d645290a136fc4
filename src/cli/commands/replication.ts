import { Option, type Command } from 'commander';
import { CONTRACT, type CallName } from '../../api/contract.ts';
import { driftText } from '../drift-text.ts';
import { followCopy } from '../follow-copy.ts';
import { readLimitText, replicationSheet, replicationTable, stateText, type Replication } from '../replication-text.ts';
import { DEFINITION_POLICIES, type DefinitionPolicy } from '../../model/definition-changes.ts';
import { REF, readInteger, readSeconds, readSeveral, readSize } from '../arguments.ts';
import { inSession, type Session } from '../session.ts';
import { duration } from '../words.ts';
import { DAY_SECONDS, HOUR_SECONDS, type ThinningRule, WEEK_SECONDS } from '../../model/retention.ts';
import { watchReplications } from '../watch.ts';

interface Settings {
  readonly interval?: number;
  readonly history?: number;
  readonly keepHourly?: number;
  readonly keepDaily?: number;
  readonly keepWeekly?: number;
  readonly lease?: number;
  readonly readLimit?: number;
  readonly readIops?: number;
  readonly autoResync?: string;
  readonly definition?: DefinitionPolicy;
  readonly replicaPlaintext?: boolean;
}
interface SetOptions extends Settings {
  readonly includeDisk?: string[];
  readonly excludeDisk?: string[];
}
interface EnableOptions extends Settings {
  readonly peer: string;
  readonly excludeDisk?: string[];
  readonly useSeed?: boolean;
  readonly wait: boolean;
}

export function addReplicationCommands(program: Command): void {
  const replication = program.command('replication').description('Replication relationships of this host');

  replication
    .command('enable')
    .description(CONTRACT.replicationEnable.summary)
    .argument('<vm>', 'name or id of the VM')
    .requiredOption('--peer <host>', 'paired host that is to be its Replica server')
    .option('--interval <time>', 'from one cycle to the next: 30, 30s, 5m; 5 s to 24 h (default: 5m)', readSeconds)
    .option('--history <number>', 'recovery points kept besides the latest (default: 24)', readInteger)
    .option('--keep-hourly <number>', 'beyond those: the newest point of each of so many hours', readInteger)
    .option('--keep-daily <number>', 'the newest point of each of so many days', readInteger)
    .option('--keep-weekly <number>', 'the newest point of each of so many weeks', readInteger)
    .option('--lease <time>', LEASE, readLease)
    .option('--read-limit <size>', READ_BYTES, readBytesPerSecond)
    .option('--read-iops <number>', READ_IOPS, readIopsLimit)
    .option('--auto-resync <when>', AUTO_RESYNC)
    .addOption(new Option('--definition <policy>', DEFINITION).choices(DEFINITION_POLICIES))
    .option('--replica-plaintext', PLAINTEXT)
    .option('--exclude-disk <target>', 'leave this disk out: vdb; may be given several times', readSeveral)
    .option('--use-seed', 'begin with disks that the Replica server has: see `replica seed`; only what differs is sent')
    .option('--no-wait', 'do not wait for the initial copy')
    .action(
      inSession(async (session, vm: string, options: EnableOptions) => {
        const begun = await session.client.call('replicationEnable', {
          vm,
          peer: options.peer,
          ...settings(options),
          ...(options.useSeed === true ? { useSeed: true } : {}),
          ...(options.excludeDisk === undefined ? {} : { excludeDisks: options.excludeDisk }),
        });
        session.output.note(`replication of ${begun.vmName} to ${begun.peer} is enabled`);
        const { besidesDisks = [] } =
          (await session.client.call('vmList', {})).find(({ id }) => id === begun.vmId) ?? {};
        if (besidesDisks.length > 0) session.output.note(`not replicated with it: ${besidesDisks.join(', ')}`);
        showResult(session, await followCopy(session, begun, options));
      }),
    );

  replication
    .command('list')
    .description(CONTRACT.replicationList.summary)
    .action(
      inSession(async ({ client, output }) => {
        const all = await client.call('replicationList', {});
        output.result(all, () => replicationTable(output, all));
      }),
    );

  replication
    .command('show')
    .description(CONTRACT.replicationShow.summary)
    .argument('<ref>', REF)
    .action(
      inSession(async ({ client, output }, ref: string) => {
        const one = await client.call('replicationShow', { ref });
        output.result(one, () => replicationSheet(output, one));
      }),
    );

  replication
    .command('watch')
    .description(CONTRACT.replicationWatch.summary)
    .argument('[ref]', REF)
    .action(inSession(async (session, ref: string | undefined) => watchReplications(session, ref)));

  replication
    .command('set')
    .description(CONTRACT.replicationSet.summary)
    .argument('<ref>', REF)
    .option('--interval <time>', 'from one cycle to the next: 30, 30s, 5m; 5 s to 24 h', readSeconds)
    .option('--history <number>', 'recovery points kept besides the latest', readInteger)
    .option('--keep-hourly <number>', 'beyond those: the newest point of each of so many hours', readInteger)
    .option('--keep-daily <number>', 'of so many days; what is left out of the three is none', readInteger)
    .option('--keep-weekly <number>', 'of so many weeks', readInteger)
    .option('--lease <time>', LEASE, readLease)
    .option('--read-limit <size>', READ_BYTES, readBytesPerSecond)
    .option('--read-iops <number>', READ_IOPS, readIopsLimit)
    .option('--auto-resync <when>', AUTO_RESYNC)
    .addOption(new Option('--definition <policy>', DEFINITION).choices(DEFINITION_POLICIES))
    .option('--replica-plaintext', PLAINTEXT)
    .option('--no-replica-plaintext', 'from now on nothing of encrypted disks is sent; what is there already stays')
    .option(
      '--include-disk <target>',
      'replicate this disk, which was added, too: vdc; may be given several times',
      readSeveral,
    )
    .option(
      '--exclude-disk <target>',
      'leave this disk out: one that was added, without a warning; one that is replicated, from the next recovery point on',
      readSeveral,
    )
    .action(
      inSession(async (session, ref: string, options: SetOptions) => {
        const { includeDisk: includeDisks, excludeDisk: excludeDisks } = options;
        const request = {
          ref,
          ...settings(options),
          ...(includeDisks === undefined ? {} : { includeDisks }),
          ...(excludeDisks === undefined ? {} : { excludeDisks }),
        };
        showResult(session, await session.client.call('replicationSet', request));
      }),
    );

  replication
    .command('drift')
    .description(CONTRACT.replicationDrift.summary)
    .argument('<ref>', REF)
    .action(
      inSession(async ({ client, output }, ref: string) => {
        const drift = await client.call('replicationDrift', { ref });
        output.result(drift, () => driftText(drift));
      }),
    );

  addSimple(replication, 'suspend', 'replicationSuspend');
  addSimple(replication, 'resume', 'replicationResume');

  replication
    .command('resync')
    .description(CONTRACT.replicationResync.summary)
    .argument('<ref>', REF)
    .option('--no-wait', 'do not wait for its end')
    .action(
      inSession(async (session, ref: string, options: { wait: boolean }) => {
        const begun = await session.client.call('replicationResync', { ref });
        showResult(session, await followCopy(session, begun, options));
      }),
    );

  addSimple(replication, 'cancel-resync', 'replicationCancelResync');

  replication
    .command('remove')
    .description(CONTRACT.replicationRemove.summary)
    .argument('<ref>', REF)
    .option('--keep-disks', 'keep the disks of the replica')
    .option('-y, --yes', 'without asking')
    .action(
      inSession(async ({ client, output, confirm }, ref: string, options: { keepDisks?: boolean; yes?: boolean }) => {
        const { id, vmName, peer } = await client.call('replicationShow', { ref });
        const { keepDisks = false } = options;
        const lost = keepDisks ? 'all recovery points' : 'all recovery points and the disks of the replica';
        await confirm(`This ends the replication of ${vmName} with ${peer} and deletes ${lost}.`, options);
        await client.call('replicationRemove', { ref: id, keepDisks });
        output.result({ removed: id }, () => `${vmName} is no longer replicated with ${peer}`);
      }),
    );
}

const LEASE =
  'fence: without an answer of the Replica server for so long (10 s to 1 h) the VM stops, and two never run; off: it runs on (default)';

const READ_BYTES =
  "read the VM's disks at this speed at most, a second: 50MiB/s; over cycles, copies and comparisons; at least 1MiB/s; off (default)";
const READ_IOPS = 'the same, in reads a second, each of at most 1 MiB; at least 10; off (default)';

const AUTO_RESYNC =
  'when a comparison begins that has become necessary: always (default), never (when you ask for it), or in a window of the day: 18:30-06:00';
const DEFINITION =
  "what the Replica VM's definition does when the primary's changes: follow (at first), or keep what its own administrator wants";

const PLAINTEXT =
  "replicate encrypted disks, too: as plain text, in the replica and its recovery points, in logs on their way, and in this host's outbox";

const readBytesPerSecond = (text: string): number => (text === 'off' ? 0 : readSize(text.replace(/\/s$/, '')));
const readIopsLimit = (text: string): number => (text === 'off' ? 0 : readInteger(text));

const readLease = (text: string): number => (text === 'off' ? 0 : readSeconds(text));

type Simple = 'replicationSuspend' | 'replicationResume' | 'replicationCancelResync';

function addSimple(parent: Command, verb: string, name: CallName & Simple): void {
  parent
    .command(verb)
    .description(CONTRACT[name].summary)
    .argument('<ref>', REF)
    .action(
      inSession(async (session, ref: string) => {
        showResult(session, await session.client.call(name, { ref }));
      }),
    );
}

function settings(options: Settings): {
  intervalSeconds?: number;
  history?: number;
  thin?: ThinningRule[];
  leaseSeconds?: number;
  readBytesPerSecond?: number;
  readIops?: number;
  autoResync?: string;
  definitionPolicy?: DefinitionPolicy;
  replicaPlaintext?: boolean;
} {
  const { interval, history, lease, readLimit, readIops, autoResync, definition, replicaPlaintext } = options;
  const thin = thinning(options);
  return {
    ...(interval === undefined ? {} : { intervalSeconds: interval }),
    ...(history === undefined ? {} : { history }),
    ...(thin === undefined ? {} : { thin }),
    ...(lease === undefined ? {} : { leaseSeconds: lease }),
    ...(readLimit === undefined ? {} : { readBytesPerSecond: readLimit }),
    ...(readIops === undefined ? {} : { readIops }),
    ...(autoResync === undefined ? {} : { autoResync }),
    ...(definition === undefined ? {} : { definitionPolicy: definition }),
    ...(replicaPlaintext === undefined ? {} : { replicaPlaintext }),
  };
}

/** Undefined when none of its options was given: it stays as it is. */
function thinning({ keepHourly, keepDaily, keepWeekly }: Settings): ThinningRule[] | undefined {
  const rules = [
    { everySeconds: HOUR_SECONDS, count: keepHourly },
    { everySeconds: DAY_SECONDS, count: keepDaily },
    { everySeconds: WEEK_SECONDS, count: keepWeekly },
  ];
  if (rules.every(({ count }) => count === undefined)) return undefined;
  return rules.flatMap(({ everySeconds, count = 0 }) => (count === 0 ? [] : [{ everySeconds, count }]));
}

function showResult({ output }: Session, one: Replication): void {
  output.result(
    one,
    () =>
      `${one.vmName}: ${stateText(one)}; every ${duration(one.intervalSeconds * 1000)}, ` +
      `${one.history} recovery points, replica on ${one.role === 'primary' ? one.peer : 'this host'}` +
      (one.leaseSeconds === 0 ? '' : `, lease of ${duration(one.leaseSeconds * 1000)}`) +
      (readLimitText(one) === undefined ? '' : `, read at ${readLimitText(one)} at most`),
  );
}
