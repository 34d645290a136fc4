/** Commands that prove that a replica can be relied on. */
import type { Command } from 'commander';
import { CONTRACT } from '../../api/contract.ts';
import { REF } from '../arguments.ts';
import { passText } from '../proof-text.ts';
import type { Replication } from '../replication-text.ts';
import { inSession, type Session } from '../session.ts';
import { Failure } from '../../model/failure.ts';
import { bytes, duration } from '../words.ts';

export function addProofCommands(program: Command): void {
  program
    .command('verify')
    .description(CONTRACT.replicationVerify.summary)
    .argument('<ref>', REF)
    .option('--no-wait', 'do not wait for its end')
    .action(
      inSession(async (session, ref: string, options: { wait: boolean }) => {
        const begun = await session.client.call('replicationVerify', { ref });
        const one = await untilDone(session, begun, options, ({ verification }) => verification?.pass ?? null);
        session.output.result(one, () => verified(begun, one));
      }),
    );

  program
    .command('scrub')
    .description(CONTRACT.replicationScrub.summary)
    .argument('<ref>', REF)
    .option('--no-wait', 'do not wait for its end')
    .action(
      inSession(async (session, ref: string, options: { wait: boolean }) => {
        const begun = await session.client.call('replicationScrub', { ref });
        const one = await untilDone(session, begun, options, ({ scrub }) => scrub?.pass ?? null);
        session.output.result(one, () => scrubbed(begun, one));
      }),
    );
}

type Pass = NonNullable<Replication['scrub']>['pass'];

/** Shows a pass until its end. */
async function untilDone(
  { client, output }: Session,
  begun: Replication,
  options: { wait: boolean },
  passOf: (one: Replication) => Pass,
): Promise<Replication> {
  if (!options.wait || passOf(begun) === null) return begun;
  if (output.isLive) output.note(output.paint('dim', 'Ctrl-C stops watching; it goes on.'));
  for await (const now of client.stream('replicationWatch', { ref: begun.id })) {
    const pass = passOf(now);
    output.draw(`\r\x1b[K${pass === null ? '' : passText(pass)}`);
    if (pass === null) return now;
    if (now.failure?.retry === 'never') throw Failure.fromJson(now.failure);
  }
  throw new Failure('interrupted', 'It could not be followed to its end');
}

function verified(before: Replication, { vmName, peer, verification }: Replication): string {
  if (verification === null) return `${vmName} runs elsewhere`;
  const { pass, last, different, repaired, unrepairedBytes } = verification;
  if (pass !== null || last === null) return `${vmName} is being compared with its replica on ${peer}`;
  const found = different - (before.verification?.different ?? 0);
  const took = `${vmName} was compared with its replica on ${peer} in ${duration(last.ended - last.began)}`;
  const rest =
    last.leftOutBytes === 0 ? '' : `; ${bytes(last.leftOutBytes)} were being changed and are left to later passes`;
  if (found === 0) return `${took}: both hold the same${rest}`;
  const mended = repaired - (before.verification?.repaired ?? 0);
  const left = unrepairedBytes === 0 ? '' : `, ${bytes(unrepairedBytes)} are yet to be sent again`;
  return `${took}: ${found} blocks differed, ${mended} are mended${left}${rest}. See \`understudy event list\`.`;
}

function scrubbed(before: Replication, { vmName, scrub }: Replication): string {
  if (scrub === null) return `the replica of ${vmName} is gone`;
  const { pass, last, found, damagedPoints, unrepairedBytes } = scrub;
  if (pass !== null || last === null) return `the replica of ${vmName} is being checked`;
  const now = found - (before.scrub?.found ?? 0);
  const took = `the replica of ${vmName} was checked in ${duration(last.ended - last.began)}`;
  if (now === 0 && damagedPoints === 0) return `${took}: all of it is what was written`;
  const left = unrepairedBytes === 0 ? '' : `, ${bytes(unrepairedBytes)} wait to be sent again`;
  return `${took}: ${now} pieces of damage were found${left}; ${damagedPoints} recovery points are not whole. See \`understudy event list\` and \`understudy point list\`.`;
}
