import type { Command } from 'commander';
import { CONTRACT, type Result } from '../../api/contract.ts';
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

  for (const [name, operation] of [
    ['track', 'vmTrackDisk'],
    ['untrack', 'vmUntrackDisk'],
  ] as const) {
    vm.command(name)
      .description(CONTRACT[operation].summary)
      .argument('<vm>', 'name or id of the VM')
      .requiredOption('--disk <target>', 'its device name in the VM: vda')
      .action(
        inSession(async ({ client, output }, ref: string, { disk }: { disk: string }) => {
          const done = await client.call(operation, { vm: ref, disk });
          output.result(done, () => rawDiskText(done));
        }),
      );
  }
}

function rawDiskText({ name, target, raw, image, state }: Result<'vmTrackDisk'>): string {
  const disk = `${name}, disk ${target}`;
  const cycle = 'shut the guest down and start it again (a reboot from inside does not count)';
  switch (state) {
    case 'tracked':
      return `${disk}: under tracking, ${raw} is used through ${image}`;
    case 'tracked-at-power-off':
      return `${disk}: ${raw} will be put under tracking when the VM is off: ${cycle}`;
    case 'plain':
      return `${disk}: it is ${raw}, without tracking`;
    case 'plain-at-power-off':
      return `${disk}: it will be ${raw} again, without tracking, when the VM is off: ${cycle}`;
  }
}
