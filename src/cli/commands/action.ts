import type { Command } from 'commander';
import { CONTRACT } from '../../api/contract.ts';
import { followAction } from '../follow-action.ts';
import { REF } from '../arguments.ts';
import { inSession } from '../session.ts';
import { table } from '../table.ts';
import { timeOfDay } from '../words.ts';

export function addActionCommands(program: Command): void {
  const action = program.command('action').description('Actions under way, and how they ended');

  action
    .command('list')
    .description(CONTRACT.actionList.summary)
    .argument('[ref]', REF)
    .action(
      inSession(async ({ client, output }, ref: string | undefined) => {
        const actions = await client.call('actionList', ref === undefined ? {} : { ref });
        output.result(actions, () =>
          table(
            actions,
            [
              { title: 'BEGUN', value: ({ startedAt }) => timeOfDay(startedAt) },
              { title: 'VM', value: ({ vmName }) => vmName },
              { title: 'ACTION', value: ({ kind }) => kind },
              { title: 'STATE', value: ({ state }) => state },
              { title: 'ID', value: ({ id }) => id },
            ],
            'No actions.',
          ),
        );
      }),
    );

  action
    .command('watch')
    .description(CONTRACT.actionWatch.summary)
    .argument('<id>', 'id of the action')
    .action(
      inSession(async (session, id: string) => {
        const begun = await session.client.call('actionShow', { action: id });
        await followAction(session, begun, {
          wait: true,
          summary: ({ kind, vmName }) => `${kind} of ${vmName} is done`,
        });
      }),
    );
}
