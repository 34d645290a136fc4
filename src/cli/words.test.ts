import assert from 'node:assert/strict';
import { test } from 'node:test';
import { stripVTControlCharacters } from 'node:util';
import { readInteger, readSeconds } from './arguments.ts';
import { sheet, table } from './table.ts';
import { bytes, duration, progressBar } from './words.ts';

void test('bytes, in powers of 1024', () => {
  const cases: [number | null, string][] = [
    [0, '0 B'],
    [1023, '1023 B'],
    [1024, '1 KiB'],
    [1536, '1.5 KiB'],
    [150 * 1024 + 512, '151 KiB'],
    [2 ** 40, '1 TiB'],
    [null, '-'],
  ];
  for (const [value, text] of cases) assert.equal(bytes(value), text);
});

void test('durations, never 60 of a unit', () => {
  const cases: [number | null, string][] = [
    [0, '0 ms'],
    [999, '999 ms'],
    [3200, '3.2 s'],
    [59_940, '59.9 s'],
    [59_960, '1 min'],
    [245_000, '4 min 5 s'],
    [3_599_600, '1 h'],
    [7_380_000, '2 h 3 min'],
    [86_399_000, '1 d'],
    [100 * 3_600_000, '4 d 4 h'],
    [-1500, '-1.5 s'],
    [null, '-'],
  ];
  for (const [value, text] of cases) assert.equal(duration(value), text);
});

void test('progress never claims more than is done', () => {
  assert.equal(progressBar(999, 1000, 10), '[#########.]  99 %');
  assert.equal(progressBar(1000, 1000, 10), '[##########] 100 %');
  assert.equal(progressBar(0, 1000, 10), '[..........]   0 %');
});

void test('tables are aligned whatever the colours', () => {
  const columns = [
    { title: 'A', value: (row: string) => `\x1b[31m${row}\x1b[39m` },
    { title: 'B', value: (row: string) => String(row.length), align: 'right' as const },
  ];
  const lines = stripVTControlCharacters(table(['x', 'long'], columns, 'none')).split('\n');
  assert.deepEqual(lines, ['A     B', 'x     1', 'long  4']);
  assert.equal(table([], columns, 'none'), 'none');
  assert.equal(
    sheet([
      ['a', '1'],
      ['long', 'x\ny'],
      ['gone', undefined],
    ]),
    'a:    1\nlong: x\n      y',
  );
});

void test('times and numbers are read, and nothing else is', () => {
  assert.deepEqual(['30', '30s', '5m', '5min', '1h'].map(readSeconds), [30, 30, 300, 300, 3600]);
  for (const text of ['', 's', '1d', '-5', '1.5m', '5 minutes']) assert.throws(() => readSeconds(text));
  assert.equal(readInteger('41'), 41);
  for (const text of ['', '4.1', '-1', '1e3', 'x']) assert.throws(() => readInteger(text));
});
