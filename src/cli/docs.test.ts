import assert from 'node:assert/strict';
import { join } from 'node:path';
import { test } from 'node:test';
import { run } from '../lib/process.ts';
import { leaves } from './reference.ts';
import { createProgram } from './program.ts';

const ROOT = join(import.meta.dirname, '../..');

void test('the generated references are those of the code', async () => {
  const { code, stderr } = await run(process.execPath, [join(ROOT, 'scripts/gen-docs.ts'), '--check']);
  assert.equal(code, 0, stderr);
});

void test('every command, argument and option is described', () => {
  for (const command of leaves(createProgram())) {
    assert.match(command.description(), /^[A-Z]/, command.name());
    for (const { description, flags } of command.options) assert.ok(description, `${command.name()} ${flags}`);
    for (const argument of command.registeredArguments) assert.ok(argument.description, command.name());
  }
});
