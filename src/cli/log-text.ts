/** Delta logs as text. */
import type { InspectedDisk, InspectedFrame, InspectedLog } from './inspect-log.ts';
import type { Output } from './output.ts';
import { sheet, table } from './table.ts';
import { bytes, timeOfDay } from './words.ts';

const VERDICT_STYLE = { whole: 'green', unfinished: 'yellow', damaged: 'red', unknown: 'red' } as const;

interface Position {
  readonly epoch: number;
  readonly sequence: number;
  readonly state: string;
}

const positionText = ({ epoch, sequence, state }: Position): string =>
  `epoch ${epoch}, sequence ${sequence}, state ${state}`;

/** The whole of what is known of a log. */
export function logSheet(output: Output, log: InspectedLog): string {
  const { header, footer, verdict, problem, frames } = log;
  const lines: [string, string | undefined][] = [
    ['file', output.paint('bold', log.path)],
    ['verdict', [output.paint(VERDICT_STYLE[verdict], verdict), problem?.message ?? []].flat().join('\n')],
    ['size', `${bytes(log.fileBytes)} (${log.fileBytes} bytes)`],
  ];
  if (header !== null) {
    const { direction, point } = header;
    lines.push(
      ['written by', header.writer],
      ['relationship', header.relationship],
      ['log id', header.logId],
      ['direction', direction === 'forward' ? 'forward: to a newer state' : 'undo: back to an older state'],
      ['created', timeOfDay(header.created)],
      ['follows', positionText(header.follows)],
      [
        'makes',
        footer === null
          ? `epoch ${header.epoch}, sequence ${header.sequence}, not finished`
          : positionText(footer.makes),
      ],
      ['point', point === null ? 'none: part of something larger' : `${timeOfDay(point.instant)}, ${point.kind}`],
      ['log digest', footer?.logDigest],
      [
        'frames',
        `${frames.data} of data (${frames.packed} packed), ${frames.zero} of zeros, ${frames.reference} references; each verified`,
      ],
      ['data', `${bytes(log.dataBytes)} in ${bytes(log.storedBytes)}${ratioText(log)}`],
      ['zeros', bytes(log.zeroBytes)],
      ['same as data', bytes(log.referenceBytes)],
    );
  }
  return [sheet(lines), ...(header === null ? [] : ['', diskTable(log.disks)])].join('\n');
}

function ratioText({ dataBytes, storedBytes }: InspectedLog): string {
  return storedBytes === 0 ? '' : `: packed to ${Math.round((100 * storedBytes) / dataBytes)} %`;
}

function diskTable(disks: readonly InspectedDisk[]): string {
  return table(
    disks,
    [
      { title: 'DISK', value: ({ target }) => target },
      { title: 'SIZE', value: ({ size }) => bytes(size), align: 'right' },
      { title: 'FRAMES', value: ({ frames }) => String(frames), align: 'right' },
      { title: 'DATA', value: ({ dataBytes }) => bytes(dataBytes), align: 'right' },
      { title: 'ZEROS', value: ({ zeroBytes }) => bytes(zeroBytes), align: 'right' },
      { title: 'SAME', value: ({ referenceBytes }) => bytes(referenceBytes), align: 'right' },
      { title: 'COVERED', value: ({ coveredBytes }) => bytes(coveredBytes), align: 'right' },
      { title: 'RUNS', value: ({ runs }) => String(runs), align: 'right' },
      { title: 'BETWEEN', value: ({ from, to }) => (from === null ? '-' : `${from} and ${to}`) },
    ],
    'No disks.',
  );
}

/** One frame, a line. */
export function frameLine({ at, kind, codec, disk, offset, length, stored, source }: InspectedFrame): string {
  const how = { data: `${codec} ${stored}`, zero: '', reference: `= ${source?.disk}+${source?.offset}` }[kind];
  const where = `${disk}+${offset}`;
  return `${String(at).padStart(12)}  ${kind.padEnd(9)}  ${where.padEnd(22)}  ${String(length).padStart(9)}  ${how}`.trimEnd();
}
