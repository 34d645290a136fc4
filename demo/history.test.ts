import assert from 'node:assert/strict';
import { test } from 'node:test';
import { History } from './history.ts';

/** Announcements of a life: record n is made at `at(n)`, announced 3 ms later, complete 20 ms later. */
function life(from: number, to: number, at: (number: number) => number): string {
  const lines: string[] = [];
  for (let number = from; number <= to; number++) {
    lines.push(`BEG ${number} ${at(number) + 3}`, `REC ${number} ${at(number) + 20}`);
  }
  return `${lines.join('\n')}\n`;
}

const made = (from: number, to: number, at: (number: number) => number) =>
  Array.from({ length: to - from + 1 }, (_, index) => ({ number: from + index, time: at(from + index) }));

const first = (number: number) => 1000 + number * 200;
const second = (number: number) => 9000 + number * 200;

test('what was announced is inherited, up to what is not', () => {
  const history = new History([life(1, 9, first)]);
  assert.equal(history.inherited(made(1, 9, first)), 9);
  assert.equal(history.inherited(made(1, 4, first)), 4, 'the rest is lost, not strange');
  assert.equal(history.inherited([]), 0);
  assert.equal(history.inherited(made(1, 10, first)), 9, 'nobody announced the tenth');
});

test('a number of another moment is another record', () => {
  const history = new History([life(1, 9, first)]);
  assert.equal(history.inherited([...made(1, 6, first), ...made(7, 9, second)]), 6, 'a copy wrote on');
  const late = made(1, 9, first).map((record) => (record.number === 5 ? { ...record, time: first(5) + 4 } : record));
  assert.equal(history.inherited(late), 4, 'made after it was announced');
  const early = made(1, 9, first).map((record) => (record.number === 5 ? { ...record, time: first(4) + 19 } : record));
  assert.equal(history.inherited(early), 4, 'made before the one before was complete');
});

test('a gap, and a record twice, end what is inherited', () => {
  const history = new History([life(1, 9, first)]);
  const all = made(1, 9, first);
  assert.equal(history.inherited(all.filter(({ number }) => number !== 3)), 2);
  assert.equal(history.inherited([...all.slice(0, 3), ...all.slice(2)]), 3);
});

test('a later life replaces what came after its beginning', () => {
  const history = new History([life(1, 9, first), life(7, 8, second)]);
  assert.equal(history.inherited([...made(1, 6, first), ...made(7, 8, second)]), 8);
  assert.equal(history.inherited(made(1, 9, first)), 6, 'the first life’s lost records are back');
});

test('a line that a crash cut is none', () => {
  const history = new History([`${life(1, 3, first)}BEG 4`, 'BE', '']);
  assert.equal(history.inherited(made(1, 4, first)), 3);
});
