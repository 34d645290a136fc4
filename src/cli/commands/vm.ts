import type { Command } from 'commander';
import { CONTRACT } from '../../api/contract.ts';
import { inSession } from '../session.ts';
import { table } from '../table.ts';
import { bytes } from '../words.ts';

export function addVmCommands(program: Command): void {
  const vm = program.command('vm').description('The VMs of this host');

  vm.command('list')
    .description(CONTRACT.vmList.summary)
    .action(
      inSession(async ({ client, output }) => {
        const vms = await client.call('vmList', {});
        output.result(vms, () =>
          table(
            vms,
            [
              { title: 'NAME', value: ({ name }) => name },
              { title: 'STATE', value: ({ state }) => state },
              {
                title: 'DISKS',
                value: ({ disks }) => disks.map(({ target, size }) => `${target} ${bytes(size)}`).join(', '),
              },
              {
                title: 'REPLICATION',
                value: ({ replications, replicable, reason }) => {
                  if (replications.length === 0) return replicable ? '-' : `not possible: ${reason}`;
                  return replications.map(({ role, peer, state }) => `${role}, ${peer}: ${state}`).join('; ');
                },
              },
            ],
            'No VMs.',
          ),
        );
      }),
    );
}
