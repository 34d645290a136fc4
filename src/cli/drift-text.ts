/** How far a Replica VM's definition is from its primary's, as text. */
import type { Result } from '../api/contract.ts';
import { table, type Column } from './table.ts';
import { timeOfDay } from './words.ts';

type Drift = Result<'replicationDrift'>;

export function driftText({ vmName, policy, since, changes, lacking }: Drift): string {
  const told =
    since === null ? 'unchanged since replication was enabled' : `told by its primary at ${timeOfDay(since)}`;
  const columns: Column<Drift['changes'][number]>[] = [
    { title: 'PLACE', value: ({ what }) => what },
    { title: 'PRIMARY', value: ({ primary }) => primary ?? '–' },
    { title: 'HERE', value: ({ here }) => here ?? '–' },
  ];
  return [
    `${vmName}: ${policy === 'follow' ? "follows its primary's definition" : 'keeps its own definition'}, ${told}`,
    table(changes, columns, "The Replica VM's definition is what its primary's is."),
    lacking.length === 0 ? 'This host has all that it needs to run.' : `Lacking on this host: ${lacking.join(', ')}`,
  ].join('\n\n');
}
