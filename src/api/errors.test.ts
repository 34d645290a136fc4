import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { test } from 'node:test';
import { CATALOGUE } from '../model/failure.ts';
import { errorReference } from './errors.ts';

const SRC = join(import.meta.dirname, '..');

void test('every code is raised somewhere', () => {
  const isSource = (file: string) => !file.includes('.test.') && !/^(api|cli)\/|^model\/failure\.ts$/.test(file);
  const source = globSync(join(SRC, '**/*.ts'))
    .filter((file) => isSource(relative(SRC, file)))
    .map((file) => readFileSync(file, 'utf8'))
    .join('\n');
  // as an argument or a branch of one: what is only compared with doesn't count
  const isRaised = (code: string) => new RegExp(`[(,?:]\\s*'${code}'\\s*[,):]`).test(source);
  const unused = Object.keys(CATALOGUE).filter((code) => !isRaised(code));
  assert.deepEqual(unused, [], 'a code that nothing raises is removed from the catalogue');
});

void test('the page has a row for each code, whole', () => {
  const page = errorReference();
  for (const [code, { retry, status, hint }] of Object.entries(CATALOGUE)) {
    const row = page.split('\n').find((line) => line.startsWith(`| \`${code}\` |`));
    const [, class_, meaning, cure, http] = row?.split(' | ') ?? assert.fail(`no row for ${code}`);
    assert.deepEqual([class_, cure, http], [retry, hint, `${status} |`], code);
    assert.match(meaning!, /^\S.*\.$/, code);
  }
});
