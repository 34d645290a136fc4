import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { test } from 'node:test';
import { breaches, LAYERS } from './layers.ts';

const files = globSync('src/**/*.ts').toSorted();

test('imports go down only', () => {
  assert.ok(files.length > 100, 'run it from the root of the tree');
  assert.deepEqual(breaches(files), []);
});

test('no room of the table can be reached from itself by way of others', () => {
  const visit = (room: string, way: readonly string[]): void => {
    assert.ok(!way.includes(room), `a circle: ${[...way, room].join(' → ')}`);
    for (const next of LAYERS[room] ?? []) visit(next, [...way, room]);
  };
  for (const room of Object.keys(LAYERS)) visit(room, []);
});

test('planted breaches are found', () => {
  const planted: Record<string, string> = {
    'src/model/a.ts': "import { x } from '../lib/log.ts';",
    'src/primary/b.ts': "import type { Replica } from '../replica/replica.ts';",
    'src/replica/c.ts': "import { L } from '../hypervisor/libvirt/libvirt.ts';",
    'src/cli/d.ts': "const m = await import('../daemon/daemon.ts');",
    'src/newroom/e.ts': '',
    'src/failover/ok.ts': "import { Replica } from '../replica/replica.ts';\nimport { join } from 'node:path';",
    'src/primary/f.test.ts': "import { Replica } from '../replica/replica.ts';",
  };
  const found = breaches(Object.keys(planted), (file) => planted[file]!);
  assert.deepEqual(
    found.map((line) => line.split(':')[0]),
    ['src/model/a.ts', 'src/primary/b.ts', 'src/replica/c.ts', 'src/cli/d.ts', 'src/newroom/e.ts'],
  );
});

const product = files.filter((file) => !/\.test\.ts$|\.fixture\.ts$|\/testing(\/|\.ts$)/.test(file));

test('the model is pure: no input, no output, no clock', () => {
  const model = product.filter((file) => file.startsWith('src/model/'));
  assert.ok(model.length > 0);
  for (const file of model) {
    assert.doesNotMatch(readFileSync(file, 'utf8'), /from 'node:|Date\.now\(|performance\.now\(|setTimeout\(/, file);
  }
});

test('the product knows nothing of its lab, demo, tests and scripts; nobody below the daemon knows the daemon', () => {
  const outside = /from '(?:\.\.\/)+(lab|demo|test|scripts|bench)\//;
  assert.match("import { Lab } from '../../lab/hosts/lab.ts';", outside);
  for (const file of product) {
    const text = readFileSync(file, 'utf8');
    assert.doesNotMatch(text, outside, file);
    if (!file.startsWith('src/daemon/')) assert.doesNotMatch(text, /from '(?:\.\.\/)+daemon\//, file);
  }
});

test('of the CLI the demo uses what speaks and draws, not its commands', () => {
  for (const file of globSync('demo/**/*.ts')) {
    for (const [, used] of readFileSync(file, 'utf8').matchAll(/from '(?:\.\.\/)+src\/cli\/([^']+)'/g)) {
      assert.ok(['client.ts', 'table.ts', 'words.ts'].includes(used!), `${file} imports src/cli/${used}`);
    }
  }
});
