/** The results: as a table, and as data. */
import type { NoiseReport } from './measure/noise.ts';
import type { Summary } from './measure/samples.ts';
import { reached, type Row } from './part.ts';
import { table } from '../src/cli/table.ts';

export interface PartResult {
  readonly part: string;
  readonly title: string;
  readonly seconds: number;
  readonly rows: readonly Row[];
  /** Why it couldn't be measured. */
  readonly failure: string | null;
}

/** What `--json` writes. Rows have a verdict where they have a target. */
export interface Report {
  readonly version: string;
  readonly began: string;
  readonly form: 'short' | 'full';
  readonly rounds: number;
  readonly corpusBytes: number;
  readonly noise: NoiseReport;
  readonly parts: readonly PartResult[];
}

export function asJson(report: Report): string {
  const parts = report.parts.map((part) => ({
    ...part,
    rows: part.rows.map((row) => ({ ...row, reached: reached(row) ?? null })),
  }));
  return `${JSON.stringify({ ...report, parts }, null, 2)}\n`;
}

export function asText({ parts, noise, form, rounds, corpusBytes }: Report): string {
  const blocks = parts.map((part) => {
    const failure = part.failure === null ? '' : `\nNOT MEASURED: ${part.failure}`;
    return `${part.title}  (${part.part}, ${part.seconds.toFixed(0)} s)\n${tableOf(part.rows)}${failure}`;
  });
  return `${blocks.join('\n\n')}\n\n${wordsOf(noise)}\nform: ${form}, rounds: ${rounds}, corpus: ${short(corpusBytes / 2 ** 20)} MiB of files\n`;
}

function tableOf(rows: readonly Row[]): string {
  const notes = rows.flatMap(({ note, what }) => (note === undefined ? [] : [`  ${what}: ${note}`]));
  const lines = table(
    rows,
    [
      { title: '  ', value: () => '' },
      { title: 'what', value: ({ what }) => what },
      { title: 'ours', value: ({ ours, unit }) => withSpread(ours, unit), align: 'right' },
      { title: 'peer', value: ({ peer }) => (peer === undefined ? '' : peer.name) },
      {
        title: '',
        value: ({ peer }) => (peer === undefined ? '' : withSpread(peer.summary, peer.unit)),
        align: 'right',
      },
      { title: 'ratio', value: ({ ratio, ratioOf }) => (ratio === undefined ? '' : `${short(ratio)} × ${ratioOf}`) },
      { title: 'target', value: targetText },
    ],
    '  nothing',
  );
  return [lines, ...notes].join('\n');
}

function targetText(row: Row): string {
  const { target, unit } = row;
  if (target === undefined) return '';
  const limit = target.of === 'ratio' ? `${short(target.limit)} ×` : `${short(target.limit)} ${unit}`;
  const verdict = reached(row) === true ? 'reached' : 'MISSED';
  return `${target.bound === 'at least' ? '≥' : '≤'} ${limit}  ${verdict}`;
}

function withSpread({ median, min, max, count }: Summary, unit: string): string {
  return count === 1 ? `${short(median)} ${unit}` : `${short(median)} ${unit} (${short(min)}–${short(max)})`;
}

/** Three digits that say something. */
export function short(value: number): string {
  if (!Number.isFinite(value)) return '–';
  const digits = Math.abs(value) >= 100 ? 0 : Math.abs(value) >= 10 ? 1 : Math.abs(value) >= 0.995 ? 2 : 3;
  return value.toFixed(digits);
}

function wordsOf({ cpu, cores, memoryBytes, kernel, loadAtStart, load, calibrationSeconds }: NoiseReport): string {
  const { median, min, max } = calibrationSeconds;
  const swing = ((max - min) / median) * 100;
  return [
    `machine: ${cpu}, ${cores} cores, ${short(memoryBytes / 2 ** 30)} GiB, Linux ${kernel}`,
    `noise: load ${short(loadAtStart)} at the start, ${short(load.median)} (${short(load.min)}–${short(load.max)}) meanwhile; ` +
      `the same SHA-256 took ${short(median * 1000)} ms (${short(min * 1000)}–${short(max * 1000)}): ±${short(swing / 2)} %`,
  ].join('\n');
}
