import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TOUCHES, type Proof } from '../test/guests/what-touches.ts';
import { touchesPage } from './touches-page.ts';

const pageWith = (...proofs: Proof[]) => {
  const read = (file: string) =>
    file === 'test/guests/newer-versions.test.ts'
      ? "stage('it\\'s whole', f); void test(\n  `${ROUNDS} kills`,\n f); stage(\"one's\", f);"
      : undefined;
  return touchesPage({ Section: [{ what: 'a', understudy: 'b', seen: 'c', proofs }] }, read);
};
const file = 'test/guests/newer-versions.test.ts';

test('every test that the page names is there', () => {
  const page = touchesPage(TOUCHES);
  assert.match(page, /\| \*\*untested\*\* \| – \|/);
});

test('names are found as they are printed, with the versions that they run on', () => {
  for (const name of ["it's whole", "one's", '30 kills']) {
    assert.ok(pageWith({ file, test: name }).endsWith(`| a | b | c | \`${file}\`: ${name} | 11.3/10.0 |\n`), name);
  }
});

test('a test or a file that is not there is named', () => {
  assert.throws(() => pageWith({ file, test: 'whole' }), /no such test:\ntest\/guests\/newer-versions.test.ts: whole$/);
  assert.throws(() => pageWith({ file, test: 'many killings' }), /many killings/);
  assert.throws(() => pageWith({ file: 'test/gone.test.ts', test: '30 kills' }), /gone/);
});
