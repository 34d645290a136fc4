import { copyText, replicationLine, replicationTable, type Replication } from './replication-text.ts';
import type { Session } from './session.ts';

/** Shows relationships live: a table that redraws itself on a terminal, a line an update elsewhere, objects as JSON. */
export async function watchReplications({ client, output }: Session, ref: string | undefined): Promise<void> {
  const present = new Map<string, Replication>();
  let lines = 0;
  for await (const one of client.stream('replicationWatch', ref === undefined ? {} : { ref })) {
    if (!output.isLive) {
      output.item(one, () => replicationLine(one));
      continue;
    }
    present.set(one.id, one);
    const all = [...present.values()].toSorted((a, b) => a.vmName.localeCompare(b.vmName));
    const bars = all.filter(({ copy }) => copy !== null).map((copying) => `${copying.vmName} ${copyText(copying)}`);
    const text = [replicationTable(output, all), ...bars].join('\n');
    output.draw(`${lines === 0 ? '' : `\x1b[${lines}A`}\x1b[0J${text}\n`);
    lines = text.split('\n').length;
  }
}
