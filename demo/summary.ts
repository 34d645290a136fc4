/** The end of the demo: a table of what was found, and how to look around where everything is kept. */
import { bytes, duration } from '../src/cli/words.ts';
import { sheet, table } from '../src/cli/table.ts';
import { isGood, type Report } from './report.ts';
import { VM, type Scene } from './scene.ts';
import type { Screen } from './screen.ts';

export function tellSummary(screen: Screen, report: Report): void {
  const { unplannedFailover: unplanned, plannedFailover: planned, initialCopy, reverse, hostReturn } = report;
  screen.line();
  screen.line(screen.paint('bold', 'What came of it'));
  if (unplanned !== null) {
    const rows = [{ name: 'unplanned', ...unplanned, rpo: duration(unplanned.rpoMs) }];
    if (planned !== null) rows.push({ ...unplanned, name: 'planned', ...planned, rpo: 'nothing lost' });
    const text = table(
      rows,
      [
        { title: 'FAILOVER', value: ({ name }) => name },
        { title: 'WRITTEN', value: ({ recordsWritten }) => `${recordsWritten}`, align: 'right' },
        { title: 'LOST', value: ({ recordsLost }) => `${recordsLost}`, align: 'right' },
        { title: 'RPO SEEN', value: ({ rpo }) => rpo, align: 'right' },
        { title: 'RTO (AGENT)', value: ({ rtoAgentMs }) => duration(rtoAgentMs), align: 'right' },
        { title: 'RTO (FIRST RECORD)', value: ({ rtoRecordMs }) => duration(rtoRecordMs), align: 'right' },
      ],
      '',
    );
    screen.columns(text);
    screen.line();
  }
  const { cycles, checks } = report;
  const sum = (of: (cycle: (typeof cycles)[number]) => number) => cycles.reduce((total, cycle) => total + of(cycle), 0);
  const moved = (changed: number, sent: number) => `${bytes(changed)} changed, ${bytes(sent)} sent`;
  const test = report.testFailover;
  const failed = checks.filter(({ ok }) => !ok);
  const lines = sheet([
    [
      'initial copy',
      initialCopy === null
        ? undefined
        : `${moved(initialCopy.changedBytes, initialCopy.sentBytes)}, ${duration(initialCopy.durationMs)}`,
    ],
    [
      'cycles',
      `${cycles.length}: ${moved(
        sum((one) => one.changedBytes),
        sum((one) => one.sentBytes),
      )}`,
    ],
    [
      'test failover',
      test === null
        ? undefined
        : `up in ${duration(test.upAfterMs)}, ${test.records} records, cycles meanwhile: ${test.cyclesMeanwhile}`,
    ],
    [
      'reversal',
      reverse === null
        ? undefined
        : `${reverse.blocksCompared} blocks compared, ${reverse.blocksDifferent} different, ${bytes(reverse.sentBytes)} sent`,
    ],
    ['two copies', hostReturn === null ? undefined : `${hostReturn.overlaps} times in ${hostReturn.samples} samples`],
    [
      'comparison',
      report.comparisons.map(({ disk, with: other, words }) => `${disk}, ${other}: ${words}`).join('\n') || undefined,
    ],
    ['checks', `${checks.length - failed.length} of ${checks.length} held`],
    ['time', `${duration(report.durationMs)}, seed ${report.seed}`],
  ]);
  screen.columns(lines);
  screen.line();
  for (const { stage, text } of failed) screen.check(false, `${stage}: ${text}`);
  screen.line(isGood(report) ? screen.paint('green', 'Everything held.') : screen.paint('red', 'Not everything held.'));
}

export function tellHowToLookAround(screen: Screen, { a, b }: Scene): void {
  screen.line();
  screen.line(screen.paint('bold', 'Everything is kept running'));
  for (const daemon of [a, b]) {
    const { host } = daemon;
    screen.line(`  host ${host.name.toUpperCase()}, ${host.address}`);
    if (!host.running) screen.line('    is off: it was killed');
    else {
      screen.line(`    ${daemon.cliCommand} replication show ${VM}`);
      screen.line(`    virsh -c '${host.libvirtUri}' list --all`);
      screen.line(`    ${host.enterCommand}`);
    }
    screen.line(`    less ${daemon.logFile}`);
  }
  screen.line('  remove it all: npm run demo -- --clean');
}
