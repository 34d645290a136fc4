import type { Command } from 'commander';
import { CONTRACT } from '../../api/contract.ts';
import { Failure } from '../../model/failure.ts';
import { readInteger } from '../arguments.ts';
import { inSession } from '../session.ts';
import { table } from '../table.ts';
import { duration, timeOfDay } from '../words.ts';

export function addPeerCommands(program: Command): void {
  const peer = program.command('peer').description('The hosts that this one is paired with');

  peer
    .command('token')
    .description(CONTRACT.peerToken.summary)
    .option('--minutes <number>', 'how long it works', readInteger)
    .action(
      inSession(async ({ client, output }, { minutes }: { minutes?: number }) => {
        const token = await client.call('peerToken', minutes === undefined ? {} : { minutes });
        output.result(token, () => token.token);
        output.note(
          `It works once, until ${timeOfDay(token.expiresAt)}. On the other host: understudy peer join TOKEN`,
        );
      }),
    );

  peer
    .command('join')
    .description(CONTRACT.peerJoin.summary)
    .argument('<token>', 'as `understudy peer token` on the other host gave it')
    .action(
      inSession(async ({ client, output }, token: string) => {
        const joined = await client.call('peerJoin', { token });
        output.result(joined, () => `paired with ${joined.name} (${joined.address})`);
      }),
    );

  peer
    .command('list')
    .description(CONTRACT.peerList.summary)
    .action(
      inSession(async ({ client, output }) => {
        const peers = await client.call('peerList', {});
        output.result(peers, () =>
          table(
            peers,
            [
              { title: 'NAME', value: ({ name }) => name },
              { title: 'ADDRESS', value: ({ address }) => address },
              { title: 'REPLICATIONS', value: ({ replications }) => String(replications), align: 'right' },
              { title: 'CA FINGERPRINT', value: ({ caFingerprint }) => caFingerprint.slice(0, 16) },
            ],
            'No peers. Pair two hosts: `understudy peer token` on one, `understudy peer join` on the other.',
          ),
        );
      }),
    );

  peer
    .command('check')
    .description(`${CONTRACT.peerCheck.summary}; fails when it does not answer`)
    .argument('<peer>', 'its name')
    .action(
      inSession(async ({ client, output }, name: string) => {
        const check = await client.call('peerCheck', { peer: name });
        output.result(check, () =>
          check.reachable
            ? `${name} answers in ${duration(check.roundTripMs)}; its clock differs by ${duration(check.skewMs)}; version ${check.version}`
            : '',
        );
        if (!check.reachable) {
          throw check.failure === null
            ? new Failure('unreachable', `${name} does not answer`)
            : Failure.fromJson(check.failure);
        }
      }),
    );

  peer
    .command('remove')
    .description(CONTRACT.peerRemove.summary)
    .argument('<peer>', 'its name')
    .option('-y, --yes', 'without asking')
    .action(
      inSession(async ({ client, output, confirm }, name: string, options: { yes?: boolean }) => {
        await confirm(`This ends the pairing with ${name}; to pair again takes a new token.`, options);
        await client.call('peerRemove', { peer: name });
        output.result({ removed: name }, () => `${name} is no longer a peer`);
      }),
    );
}
