import type { Command } from 'commander';
import { CONTRACT, type Result } from '../../api/contract.ts';
import { inSession } from '../session.ts';
import { sheet } from '../table.ts';
import { bytes, duration } from '../words.ts';

export function addStatusCommand(program: Command): void {
  program
    .command('status')
    .description(CONTRACT.daemonStatus.summary)
    .action(
      inSession(async ({ client, output }) => {
        const daemon = await client.call('daemonStatus', {});
        output.result(daemon, () =>
          sheet([
            ['host', output.paint('bold', daemon.name)],
            ['version', daemon.version],
            ['address', daemon.address],
            ['CA fingerprint', daemon.caFingerprint],
            ['running for', duration(daemon.now - daemon.startedAt)],
            [
              'libvirt',
              daemon.libvirt.reachable
                ? `${output.paint('green', 'reachable')}${versionsText(daemon.libvirt)}`
                : `${output.paint('red', 'not reachable')}: ${daemon.libvirt.failure?.message ?? 'no reason given'}`,
            ],
            ...daemon.space.map(
              ({ purpose, path, freeBytes, totalBytes }) =>
                [`room for ${purpose}`, `${bytes(freeBytes)} of ${bytes(totalBytes)} free at ${path}`] as const,
            ),
          ]),
        );
      }),
    );
}

function versionsText({ versions, remark }: Result<'daemonStatus'>['libvirt']): string {
  const said = Object.entries(versions).map(([program, version]) => `${program} ${version}`);
  return `${said.length === 0 ? '' : `: ${said.join(', ')}`}${remark === null ? '' : `\n${remark}`}`;
}
