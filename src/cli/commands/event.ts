import type { Command } from 'commander';
import { CONTRACT, type Sent } from '../../api/contract.ts';
import type { EventView } from '../../api/resources.ts';
import type { Output } from '../output.ts';
import { REF, readInteger } from '../arguments.ts';
import { inSession } from '../session.ts';
import { timeOfDay } from '../words.ts';

const SEVERITY_STYLE = { info: 'dim', warning: 'yellow', critical: 'red' } as const;

export function addEventCommands(program: Command): void {
  const event = program.command('event').description('What happened on this host');

  event
    .command('list')
    .description(`${CONTRACT.eventList.summary} as JSON, oldest first as text`)
    .argument('[ref]', REF)
    .option('-n, --limit <number>', 'how many, 1 to 1000', readInteger, 50)
    .option('-f, --follow', 'and then those that happen; JSON is one object a line, oldest first')
    .action(
      inSession(async ({ client, output }, ref: string | undefined, options: { limit: number; follow?: boolean }) => {
        const filter = ref === undefined ? {} : { ref };
        const events = await client.call('eventList', { ...filter, limit: options.limit });
        const oldestFirst = events.toReversed();
        if (options.follow !== true) {
          output.result(events, () => oldestFirst.map((one) => eventLine(output, one)).join('\n') || 'No events.');
          return;
        }
        for (const one of oldestFirst) output.item(one, () => eventLine(output, one));
        const after = events[0]?.id ?? 0;
        for await (const one of client.stream('eventWatch', { ...filter, after })) {
          output.item(one, () => eventLine(output, one));
        }
      }),
    );
}

function eventLine(output: Output, { time, severity, kind, message }: Sent<EventView>): string {
  return `${timeOfDay(time)}  ${output.paint(SEVERITY_STYLE[severity], severity.padEnd(8))}  ${kind}: ${message}`;
}
