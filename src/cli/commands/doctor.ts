import type { Command } from 'commander';
import { CONTRACT, type Result } from '../../api/contract.ts';
import { Failure } from '../../model/failure.ts';
import type { Output, Style } from '../output.ts';
import { inSession } from '../session.ts';
import { table } from '../table.ts';

type Finding = Result<'doctor'>['findings'][number];

const STYLE: Readonly<Record<Finding['severity'], Style>> = { ok: 'green', warning: 'yellow', critical: 'red' };

export function addDoctorCommand(program: Command): void {
  program
    .command('doctor')
    .description(`${CONTRACT.doctor.summary}. Fails when something critical is found`)
    .argument('[vm]', 'name or id of a VM; default: those that are replicated from here')
    .option('--peer <peer>', 'only this paired host')
    .action(
      inSession(async ({ client, output }, vm: string | undefined, { peer }: { peer?: string }) => {
        const diagnosis = await client.call('doctor', {
          ...(vm === undefined ? {} : { vm }),
          ...(peer === undefined ? {} : { peer }),
        });
        const { findings } = diagnosis;
        output.result(diagnosis, () => diagnosisText(output, findings));
        const critical = findings.filter(({ severity }) => severity === 'critical').length;
        if (critical === 0) return;
        const found = critical === 1 ? '1 finding is critical' : `${critical} findings are critical`;
        throw new Failure('wrong-state', found, { hint: 'The cure of each is said with it; ask again afterwards.' });
      }),
    );
}

/** All that was looked at, and below it what to do. */
function diagnosisText(output: Output, findings: readonly Finding[]): string {
  const word = ({ severity }: Finding): string => output.paint(STYLE[severity], severity);
  const seen = table(
    findings,
    [
      { title: 'LOOKED AT', value: ({ subject }) => subject },
      { title: 'VERDICT', value: word },
      { title: 'FOUND', value: ({ found }) => found },
    ],
    'Nothing was looked at.',
  );
  const cures = findings
    .filter(({ cure }) => cure !== null)
    .map((finding) => `${word(finding)}: ${finding.subject}: ${finding.found}\n  ${finding.cure}`);
  return [seen, ...(cures.length === 0 ? ['Nothing has to be done.'] : cures)].join('\n\n');
}
