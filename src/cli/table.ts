import { stripVTControlCharacters } from 'node:util';

export interface Column<T> {
  readonly title: string;
  readonly value: (row: T) => string;
  readonly align?: 'left' | 'right';
}

const width = (text: string): number => stripVTControlCharacters(text).length;

/** An aligned table without lines, title first; `empty` where there is no row. */
export function table<T>(rows: readonly T[], columns: readonly Column<T>[], empty: string): string {
  if (rows.length === 0) return empty;
  const cells = [columns.map((column) => column.title), ...rows.map((row) => columns.map(({ value }) => value(row)))];
  const widths = columns.map((_, index) => Math.max(...cells.map((line) => width(line[index]!))));
  return cells
    .map((line) =>
      line
        .map((cell, index) => pad(cell, widths[index]!, columns[index]!.align))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

/** `name: value` lines, values aligned. Lines without a value are left out. */
export function sheet(lines: readonly (readonly [name: string, value: string | undefined])[]): string {
  const present = lines.filter((line): line is readonly [string, string] => line[1] !== undefined);
  const widest = Math.max(...present.map(([name]) => name.length)) + 2;
  return present
    .map(([name, value]) => `${`${name}:`.padEnd(widest)}${value.replaceAll('\n', `\n${' '.repeat(widest)}`)}`)
    .join('\n');
}

function pad(text: string, to: number, align: 'left' | 'right' = 'left'): string {
  const space = ' '.repeat(Math.max(0, to - width(text)));
  return align === 'left' ? text + space : space + text;
}
