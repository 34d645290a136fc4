import type { Command } from 'commander';
import { CONTRACT } from '../../api/contract.ts';
import { inSession } from '../session.ts';
import { table } from '../table.ts';

export function addReplicaCommands(program: Command): void {
  const replica = program.command('replica').description('Replicas on this host');

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
