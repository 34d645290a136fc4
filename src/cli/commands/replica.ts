import type { Command } from 'commander';
import { CONTRACT } from '../../api/contract.ts';
import { Failure } from '../../model/failure.ts';
import { inSession } from '../session.ts';
import { table } from '../table.ts';

export function addReplicaCommands(program: Command): void {
  const replica = program.command('replica').description('Replicas on this host');

  replica
    .command('seed')
    .description(CONTRACT.replicaSeed.summary)
    .argument('<vm>', 'name or id of the VM on this host, which is off')
    .option('--peer <host>', 'paired host whose VM it is a copy of')
    .option('--withdraw', 'nobody may use them any more')
    .action(
      inSession(async ({ client, output }, vm: string, options: { peer?: string; withdraw?: boolean }) => {
        const { peer = null, withdraw = false } = options;
        if ((peer === null) !== withdraw) throw new Failure('bad-request', 'Give either --peer or --withdraw.');
        const seed = await client.call('replicaSeed', { vm, ...(peer === null ? {} : { peer }) });
        output.result(seed, () =>
          peer === null
            ? `the disks of ${seed.name} are nobody's to begin with any more`
            : `on ${peer}, now: understudy replication enable ${seed.name} --peer THIS-HOST --use-seed`,
        );
      }),
    );

  replica
    .command('rescan')
    .description(CONTRACT.replicaRescan.summary)
    .action(
      inSession(async ({ client, output }) => {
        const found = await client.call('replicaRescan', {});
        output.result(found, () =>
          table(
            found,
            [
              { title: 'RELATIONSHIP', value: ({ id }) => id },
              { title: 'VM', value: ({ vmName }) => vmName ?? '-' },
              { title: 'FROM', value: ({ peer }) => peer ?? '-' },
              { title: 'OUTCOME', value: ({ outcome, failure }) => (failure === null ? outcome : failure.message) },
            ],
            'No replica on this host.',
          ),
        );
      }),
    );
}
