import { Option, type Command } from 'commander';
import { CONTRACT } from '../../api/contract.ts';
import { followAction } from '../follow-action.ts';
import { DAMAGED, REF, readInteger, readSeconds } from '../arguments.ts';
import { inSession, type Session } from '../session.ts';
import { duration, timeOfDay } from '../words.ts';
import type { Replication } from '../replication-text.ts';

interface FailoverOptions {
  readonly point?: number;
  readonly force?: boolean;
  readonly damaged?: boolean;
  readonly yes?: boolean;
  readonly wait: boolean;
}
interface PlannedOptions extends FailoverOptions {
  readonly start: boolean;
  readonly shutdownTimeout?: number;
}

const noWait = (): Option => new Option('--no-wait', 'do not wait for its end');
const yes = (): Option => new Option('-y, --yes', 'without asking');
const point = (): Option =>
  new Option('--point <number>', 'recovery point, as `point list` gives it (default: the latest)').argParser(
    readInteger,
  );

export function addFailoverCommands(program: Command): void {
  const failover = program.command('failover').description('Failovers: test, unplanned, planned, and the way back');
  addTest(failover.command('test').description('Test failover: an isolated copy of the VM'));
  addUnplanned(failover);
  addPlanned(failover);
  addEnding(failover);

  failover
    .command('reverse')
    .description(CONTRACT.reverseReplication.summary)
    .argument('<ref>', REF)
    .addOption(noWait())
    .action(
      inSession(async (session, ref: string, { wait }: FailoverOptions) => {
        const action = await session.client.call('reverseReplication', { ref });
        const summary = (): string => `${action.vmName} is replicated from this host now`;
        await followAction(session, action, { wait, summary });
      }),
    );
}

function addTest(test: Command): void {
  test
    .command('start')
    .description(CONTRACT.testFailoverStart.summary)
    .argument('<ref>', REF)
    .addOption(point())
    .option('--damaged', DAMAGED)
    .addOption(noWait())
    .action(
      inSession(async (session, ref: string, { wait, ...options }: FailoverOptions) => {
        const action = await session.client.call('testFailoverStart', { ref, ...pointOf(options) });
        await followAction(session, action, {
          wait,
          summary: ({ result }) => `${result?.vmName} runs, isolated; end it with \`understudy failover test stop\``,
        });
      }),
    );

  test
    .command('stop')
    .description(CONTRACT.testFailoverStop.summary)
    .argument('<ref>', REF)
    .addOption(noWait())
    .action(
      inSession(async (session, ref: string, { wait }: FailoverOptions) => {
        const action = await session.client.call('testFailoverStop', { ref });
        await followAction(session, action, { wait, summary: () => 'the test VM is removed' });
      }),
    );
}

function addUnplanned(failover: Command): void {
  failover
    .command('unplanned')
    .description(CONTRACT.unplannedFailover.summary)
    .argument('<ref>', REF)
    .addOption(point())
    .option('--force', 'even though the primary answers that the VM runs there')
    .option('--damaged', DAMAGED)
    .addOption(yes())
    .addOption(noWait())
    .action(
      inSession(async (session, ref: string, options: FailoverOptions) => {
        const { vmName, peer, protectedUntil } = await session.client.call('replicationShow', { ref });
        const lost = options.point === undefined ? latestText(protectedUntil) : `after recovery point ${options.point}`;
        await session.confirm(
          `This runs ${vmName} here in place of ${peer}. What it wrote ${lost} is lost.\n` +
            `Nobody but you can know that it does not run on ${peer} any more.`,
          options,
        );
        const action = await session.client.call('unplannedFailover', {
          ref,
          ...pointOf(options),
          force: options.force ?? false,
        });
        await followAction(session, action, {
          wait: options.wait,
          summary: ({ result }) =>
            `${vmName} runs here, as of ${timeOfDay(result?.instant ?? null)}. ` +
            'Look at it, then `failover complete` or `failover reverse`, or `failover cancel`.',
        });
      }),
    );
}

function addPlanned(failover: Command): void {
  failover
    .command('planned')
    .description(CONTRACT.plannedFailover.summary)
    .argument('<ref>', REF)
    .option('--no-start', 'do not start the VM at the other side')
    .option('--shutdown-timeout <time>', 'how long the guest may take to shut down: 90, 2m (default: 2m)', readSeconds)
    .addOption(yes())
    .addOption(noWait())
    .action(
      inSession(async (session, ref: string, options: PlannedOptions) => {
        const { vmName, peer } = await session.client.call('replicationShow', { ref });
        const then = options.start ? `starts it on ${peer}` : `hands it over to ${peer}`;
        await session.confirm(`This shuts ${vmName} down and ${then}.`, options);
        const action = await session.client.call('plannedFailover', {
          ref,
          start: options.start,
          ...(options.shutdownTimeout === undefined ? {} : { shutdownTimeoutSeconds: options.shutdownTimeout }),
        });
        await followAction(session, action, {
          wait: options.wait,
          summary: () => `${vmName} ${options.start ? 'runs on' : 'can be started on'} ${peer}; nothing was lost`,
        });
      }),
    );
}

/** Cancel and complete: either gives up something for good, so both ask. */
function addEnding(failover: Command): void {
  const endings = [
    {
      verb: 'cancel',
      name: 'cancelFailover',
      question: ({ vmName }: Replication) => `This stops ${vmName} here and gives up what it wrote since the failover.`,
      summary: 'the failover is cancelled',
    },
    {
      verb: 'complete',
      name: 'completeFailover',
      question: ({ vmName }: Replication) =>
        `The failover of ${vmName} stays, and its other recovery points are deleted.`,
      summary: 'the failover is complete',
    },
  ] as const;
  for (const { verb, name, question, summary } of endings) {
    failover
      .command(verb)
      .description(CONTRACT[name].summary)
      .argument('<ref>', REF)
      .addOption(yes())
      .addOption(noWait())
      .action(
        inSession(async (session: Session, ref: string, options: FailoverOptions) => {
          await session.confirm(question(await session.client.call('replicationShow', { ref })), options);
          const action = await session.client.call(name, { ref });
          await followAction(session, action, { wait: options.wait, summary: () => summary });
        }),
      );
  }
}

const latestText = (protectedUntil: number | null): string =>
  protectedUntil === null
    ? 'after the latest recovery point'
    : `after ${timeOfDay(protectedUntil)} (${duration(Date.now() - protectedUntil)} ago)`;

/** Which point, and whether it is taken although it is damaged. */
function pointOf({ point: sequence, damaged }: { point?: number; damaged?: boolean }): {
  point?: number;
  damaged?: true;
} {
  return { ...(sequence === undefined ? {} : { point: sequence }), ...(damaged === true ? { damaged } : {}) };
}
