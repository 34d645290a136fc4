import type { Command } from 'commander';
import { CONTRACT, type Result } from '../../api/contract.ts';
import { followAction } from '../follow-action.ts';
import { DAMAGED, REF, readInteger } from '../arguments.ts';
import { inSession } from '../session.ts';
import { table } from '../table.ts';
import { bytes, duration, timeOfDay } from '../words.ts';

interface ExportOptions {
  readonly disk: string;
  readonly file: string;
  readonly format?: 'qcow2' | 'raw';
  readonly damaged?: boolean;
  readonly wait: boolean;
}

function pointNote({ latest, damaged, usable }: Result<'pointList'>[number]): string {
  const trouble = damaged === null ? [] : [`${usable ? 'damaged' : 'can not be used'}: ${damaged}`];
  return [...(latest ? ['latest'] : []), ...trouble].join(', ');
}

export function addPointCommands(program: Command): void {
  const point = program.command('point').description('Recovery points');

  point
    .command('list')
    .description(CONTRACT.pointList.summary)
    .argument('<ref>', REF)
    .action(
      inSession(async ({ client, output }, ref: string) => {
        const points = await client.call('pointList', { ref });
        const now = Date.now();
        output.result(points, () =>
          table(
            points,
            [
              { title: 'POINT', value: ({ sequence }) => String(sequence), align: 'right' },
              { title: 'INSTANT', value: ({ instant }) => timeOfDay(instant) },
              { title: 'AGE', value: ({ instant }) => duration(Math.max(0, now - instant)), align: 'right' },
              { title: 'KIND', value: ({ kind }) => kind },
              { title: 'ROOM', value: ({ undoBytes }) => bytes(undoBytes), align: 'right' },
              { title: '', value: pointNote },
            ],
            'No recovery point yet: the initial copy is not complete.',
          ),
        );
      }),
    );

  point
    .command('export')
    .description(CONTRACT.pointExport.summary)
    .argument('<ref>', REF)
    .argument('<point>', 'number of the point, as `point list` gives it', readInteger)
    .requiredOption('--disk <target>', 'which disk: vda')
    .requiredOption('--file <path>', 'absolute path on the host of the daemon; must not exist')
    .option('--format <format>', 'qcow2 or raw (default: qcow2)')
    .option('--damaged', DAMAGED)
    .option('--no-wait', 'do not wait for its end')
    .action(
      inSession(async (session, ref: string, number: number, { disk, file, format, damaged, wait }: ExportOptions) => {
        const action = await session.client.call('pointExport', {
          ref,
          point: number,
          disk,
          file,
          ...(format === undefined ? {} : { format }),
          ...(damaged === true ? { damaged } : {}),
        });
        await followAction(session, action, { wait, summary: ({ result }) => `written: ${result?.path ?? file}` });
      }),
    );
}
