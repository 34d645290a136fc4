/** Commands that get out of the way of other programs, for a while or for good. */
import type { Command } from 'commander';
import { CONTRACT, type Result } from '../../api/contract.ts';
import { Failure } from '../../model/failure.ts';
import { REF, readSeconds } from '../arguments.ts';
import { inSession, type Session } from '../session.ts';
import { timeOfDay } from '../words.ts';

interface YieldOptions {
  readonly for?: number;
  readonly end?: boolean;
}

interface DetachOptions {
  readonly all?: boolean;
  readonly yes?: boolean;
}

export function addNeighbourCommands(program: Command): void {
  program
    .command('yield')
    .description(CONTRACT.replicationYield.summary)
    .argument('<ref>', REF)
    .option('--for <time>', 'for so long: 10m, 2h; at most 24 h', readSeconds)
    .option('--end', 'no longer: replication goes on now')
    .action(
      inSession(async ({ client, output }, ref: string, options: YieldOptions) => {
        if ((options.for === undefined) === (options.end !== true)) {
          throw new Failure('bad-request', 'Say how long', { hint: 'Give --for TIME (--for 10m), or --end.' });
        }
        const one = await client.call('replicationYield', { ref, seconds: options.for ?? 0 });
        output.result(one, () =>
          one.yieldUntil === null
            ? `${one.vmName}: replication goes on`
            : `${one.vmName} is left alone until ${timeOfDay(one.yieldUntil)}; changes are recorded, and sent then`,
        );
      }),
    );

  program
    .command('detach')
    .description(CONTRACT.vmDetach.summary)
    .argument('[vm]', 'name or id of the VM')
    .option('--all', 'every VM of this host')
    .option('-y, --yes', 'without asking')
    .action(inSession(detach));
}

type RawDiskState = Result<'vmDetach'>['rawDisks'][number]['state'];

const RAW_DISK: Readonly<Record<RawDiskState, (target: string, path: string) => string>> = {
  'given-back': (target, path) => `, disk ${target} is ${path} again`,
  'at-power-off': (target, path) => `; disk ${target} will be ${path} again when the VM is off`,
  'under-snapshot': (target, path) =>
    `; disk ${target} stays on ${path}, over which a snapshot lies: merge it (\`virsh blockcommit --active --pivot\`), and detach again`,
};

async function detach({ client, output, confirm }: Session, vm: string | undefined, options: DetachOptions) {
  if ((vm === undefined) === (options.all !== true)) {
    throw new Failure('bad-request', 'Say which VM', { hint: 'Name one VM, or give --all.' });
  }
  const all = await client.call('vmList', {});
  const chosen = vm === undefined ? all : all.filter(({ id, name }) => id === vm || name === vm);
  if (chosen.length === 0 && vm !== undefined) throw new Failure('not-found', `There is no VM ${vm} on this host`);
  const ends = chosen.flatMap(({ name, replications }) =>
    replications.map(({ role, peer }) =>
      role === 'primary'
        ? `${name}: replication to ${peer} ends; its replica's disks stay there, its recovery points go`
        : `${name}: this replica of a VM on ${peer} is no longer kept; its disks stay, its definition and recovery points go`,
    ),
  );
  if (ends.length > 0) await confirm(ends.join('\n'), options);
  const done: Result<'vmDetach'>[] = [];
  for (const { id } of chosen) done.push(await client.call('vmDetach', { vm: id }));
  output.result(done, () =>
    done
      .map(({ name, replication, bitmaps, rawDisks }) => {
        const ended = replication === null ? '' : `, replication with ${replication.peer} has ended`;
        const removed =
          bitmaps === 0 ? '' : `, ${bitmaps} ${bitmaps === 1 ? 'bitmap' : 'bitmaps'} of no relationship removed`;
        const back = rawDisks.map(({ target, path, state }) => RAW_DISK[state](target, path));
        const isLeft = rawDisks.some(({ state }) => state !== 'given-back');
        const left = `nothing of understudy is left in it${isLeft ? ' but a tracking image' : ''}`;
        return `${name}: ${left}${ended}${removed}${back.join('')}`;
      })
      .join('\n'),
  );
}
