/** Writes the references in docs/ from the code they describe. `--check` writes nothing and fails if one is out of date. */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describeApi } from '../src/api/openapi.ts';
import { errorReference } from '../src/api/errors.ts';
import { apiReference } from '../src/api/reference.ts';
import { createProgram } from '../src/cli/program.ts';
import { commandReference } from '../src/cli/reference.ts';
import { configReference } from '../src/daemon/config/reference.ts';
import { VERSION } from '../src/lib/version.ts';
import { TOUCHES } from '../test/guests/what-touches.ts';
import { touchesPage } from './touches-page.ts';

const DOCS = join(import.meta.dirname, '../docs');

const pages = {
  'openapi.json': `${JSON.stringify(describeApi(VERSION), undefined, 2)}\n`,
  'rest.md': apiReference(),
  'errors.md': errorReference(),
  'cli.md': commandReference(createProgram()),
  'config.md': configReference(),
  'what-touches-a-vm.md': touchesPage(TOUCHES),
};

const isCheck = process.argv.includes('--check');
for (const [name, text] of Object.entries(pages)) {
  const path = join(DOCS, name);
  if (!isCheck) writeFileSync(path, text);
  else if (read(path) !== text) {
    console.error(`docs/${name} is out of date: run \`node scripts/gen-docs.ts\``);
    process.exitCode = 1;
  }
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
    throw error;
  }
}
