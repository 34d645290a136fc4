import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import { defaultConfig } from '../config/read.ts';

const ROOT = join(import.meta.dirname, '../../..');
const { pointDirectory, runDirectory } = defaultConfig('a');

test('the rules for AppArmor are for the directories that are the default, and each is a rule', () => {
  const text = readFileSync(join(ROOT, 'packaging/apparmor/libvirt-qemu'), 'utf8');
  const rules = text.split('\n').filter((line) => line.trim() !== '' && !line.trimStart().startsWith('#'));
  for (const rule of rules) assert.match(rule, /^ {2}\/\S+ [rwk]+,$/, rule);
  assert.ok(rules.includes(`  ${pointDirectory}/*/job/* rwk,`));
  assert.ok(rules.some((rule) => rule.replace('{,var/}', '').startsWith(`  ${runDirectory}/tests/`)));
});

test('docs/rights.md speaks of the same directories', () => {
  const page = readFileSync(join(ROOT, 'docs/rights.md'), 'utf8');
  assert.ok(page.includes(`'${pointDirectory}(/.*)?'`));
  assert.ok(page.includes(`${runDirectory}/tests`));
});
