import assert from 'node:assert/strict';
import { test } from 'node:test';
import { niceAbove, plot } from './plot.ts';

void test('each panel has its curves, within its field', () => {
  const curves = [
    { name: 'a', values: [0, 5, 7] },
    { name: 'b', values: [1, 1, 1] },
  ];
  const drawn = plot('Memory & more', [0, 5, 10], [{ title: 'memory', unit: 'MiB', curves }]);
  assert.match(drawn, /Memory &amp; more/);
  const lines = [...drawn.matchAll(/<polyline points="([^"]*)"/g)].map(([, points]) =>
    points!.split(' ').map((point) => point.split(',').map(Number)),
  );
  assert.equal(lines.length, 2);
  const [first, second] = lines;
  assert.deepEqual(
    first!.map(([x]) => x),
    second!.map(([x]) => x),
  );
  assert.ok(first![0]![0]! < first![1]![0]!, 'later is to the right');
  assert.ok(first![0]![1]! > first![2]![1]!, 'more is above');
  for (const [x, y] of lines.flat()) assert.ok(x! >= 52 && x! <= 446 && y! >= 30 && y! <= 162, `${x},${y}`);
});

void test('a scale ends at a short number', () => {
  assert.deepEqual([0, 0.3, 1, 1.1, 60, 61, 99, 312].map(niceAbove), [1, 0.4, 1, 2, 60, 80, 100, 400]);
});
