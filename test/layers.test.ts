/** Who may import whom: the table of ARCHITECTURE.md, held. Imports go down only; adapters are known to the daemon alone. */
import assert from 'node:assert/strict';
import { globSync, readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';

const ROOT = fileURLToPath(new URL('..', import.meta.url));

const BASE = ['src/lib', 'src/model'];
const PORTS = ['src/hypervisor', 'src/store', 'src/protocol'];
const ENGINE = [...BASE, ...PORTS, 'src/deltalog', 'src/qemu', 'src/journal'];
const ADAPTER = [...BASE, 'src/deltalog', 'src/qemu'];
const ADAPTERS = [
  'src/hypervisor/libvirt',
  'src/hypervisor/qsd',
  'src/protocol/https',
  'src/store/memory',
  'src/store/sqlite',
];
const EVERYTHING = ['src', 'lab', 'test', 'demo', 'scripts', 'bench'];

/** What the files of a unit may import besides their own unit. A file may have more than its unit: it says why. */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  'src/lib': [],
  'src/lib/version.ts': ['package.json'],
  'src/model': [],
  'src/deltalog': BASE,
  'src/qemu': BASE,
  'src/journal': BASE,
  'src/security': BASE,
  'src/hypervisor': BASE,
  'src/store': BASE,
  'src/protocol': [...BASE, 'src/deltalog'],
  'src/primary': ENGINE,
  'src/replica': ENGINE,
  'src/failover': [...ENGINE, 'src/primary', 'src/replica'],
  'src/hypervisor/libvirt': [...ADAPTER, 'src/hypervisor'],
  'src/hypervisor/qsd': [...ADAPTER, 'src/hypervisor'],
  'src/protocol/https': [...ADAPTER, 'src/protocol', 'src/security'],
  'src/store/memory': [...ADAPTER, 'src/store'],
  'src/store/sqlite': [...ADAPTER, 'src/store'],
  'src/api': BASE,
  'src/server': [...BASE, 'src/api'],
  'src/cli': [...BASE, 'src/api'],
  // looks into a log without the daemon: the one thing that the CLI does by itself
  'src/cli/inspect-log.ts': [...BASE, 'src/api', 'src/deltalog'],
  'src/daemon': [
    ...ENGINE,
    ...ADAPTERS,
    'src/primary',
    'src/replica',
    'src/failover',
    'src/security',
    'src/api',
    'src/server',
  ],
  lab: [...BASE, ...PORTS, ...ADAPTERS, 'src/api', 'src/cli', 'src/daemon', 'src/qemu', 'src/deltalog', 'src/security'],
  // of the CLI what it speaks and draws with, not its commands
  demo: [...BASE, 'lab', 'src/api', 'src/cli/client.ts', 'src/cli/table.ts', 'src/cli/words.ts'],
  scripts: ['lab', 'src'],
  test: EVERYTHING,
  bench: EVERYTHING,
};

/** Tests, and what only tests import, may reach anywhere; that no product file imports them is looked at, too. */
const FOR_TESTS = /(\.test|\.fixture|\/testing)\.ts$|^src\/api\/testing\/|-mutant\.ts$/;

interface Source {
  readonly path: string;
  readonly text: string;
}

/** The folder that a file counts for: `src/NAME`, or for adapters `src/PORT/NAME`, or the topmost one. */
function unitOf(path: string): string {
  const [top, folder, adapter, ...rest] = path.split('/');
  if (top !== 'src') return top!;
  const port = `${top}/${folder}`;
  return PORTS.includes(port) && rest.length > 0 ? `${port}/${adapter}` : port;
}

/** Paths of our own files that a source imports. */
function importsOf({ path, text }: Source): string[] {
  const statements = text.matchAll(
    /^(?:import|export|\} from)\b[^'"`;]*?['"](\.[^'"]+)['"]|\bimport\(\s*['"](\.[^'"]+)['"]/gm,
  );
  return [...statements].map((match) => normalize(join(dirname(path), (match[1] ?? match[2])!)));
}

/** One line for each import that the table doesn't allow. */
function breaches(sources: readonly Source[]): string[] {
  const found: string[] = [];
  for (const source of sources.filter(({ path }) => !FOR_TESTS.test(path))) {
    const from = unitOf(source.path);
    const allowed = MAY_IMPORT[source.path] ?? MAY_IMPORT[from];
    if (allowed === undefined) {
      found.push(`${source.path}: ${from} is not in the table`);
      continue;
    }
    for (const target of importsOf(source)) {
      const to = unitOf(target);
      const isTest = FOR_TESTS.test(target) && from !== 'test' && from !== 'bench';
      const isAllowed =
        to === from || allowed.some((place) => place === to || place === target || place === target.split('/')[0]);
      if (isTest || !isAllowed) found.push(`${source.path} imports ${target}`);
    }
  }
  return found;
}

test('imports go down only', () => {
  const paths = globSync('{src,lab,demo,scripts,test,bench}/**/*.ts', { cwd: ROOT });
  const sources = paths.map((path) => ({ path, text: readFileSync(join(ROOT, path), 'utf8') }));
  assert.ok(sources.length > 100, 'the tree is there');
  assert.ok(sources.flatMap(importsOf).length > 3 * sources.length, 'imports are found');
  assert.deepEqual(breaches(sources), []);
});

test('the model is pure: no input, no output, no clock', () => {
  for (const path of globSync('src/model/*.ts', { cwd: ROOT })) {
    if (FOR_TESTS.test(path)) continue;
    const text = readFileSync(join(ROOT, path), 'utf8');
    assert.doesNotMatch(text, /from 'node:|Date\.now\(|performance\.now\(|setTimeout\(/, path);
  }
});

test('what must not be imported is found', () => {
  const planted: [string, string][] = [
    ['src/model/extent.ts', "import { until } from '../lib/clock.ts';"],
    ['src/lib/gate.ts', "import { Failure } from '../model/failure.ts';"],
    ['src/primary/loop.ts', "import { Replica } from '../replica/replica.ts';"],
    ['src/replica/view.ts', "import { runCycle } from '../primary/cycle.ts';"],
    ['src/failover/test.ts', "import { Domains } from '../hypervisor/libvirt/domains.ts';"],
    ['src/primary/cycle.ts', "import type { SqliteStore } from '../store/sqlite/store.ts';"],
    ['src/hypervisor/qsd/qsd.ts', "import { Calls } from '../libvirt/rpc/calls.ts';"],
    ['src/hypervisor/hypervisor.ts', "export { Domains } from './libvirt/domains.ts';"],
    ['src/cli/main.ts', "import {\n  startDaemon,\n} from '../daemon/daemon.ts';"],
    ['src/api/health.ts', "const { x } = await import('../daemon/views.ts');"],
    ['src/daemon/daemon.ts', "import { Lab } from '../../lab/hosts/lab.ts';"],
    ['src/qemu/qmp.ts', "import { x } from './testing.ts';"],
    ['demo/main.ts', "import { program } from '../src/cli/program.ts';"],
    ['src/newcomer/thing.ts', "import { x } from '../lib/gate.ts';"],
  ];
  for (const [path, text] of planted) assert.equal(breaches([{ path, text }]).length, 1, `${path}: ${text}`);

  const fine: [string, string][] = [
    ['src/primary/cycle.ts', "import { Failure } from '../model/failure.ts';\nimport { sendLog } from './send.ts';"],
    ['src/primary/cycle.ts', "import type { Point } from '../hypervisor/hypervisor.ts';"],
    ['src/hypervisor/libvirt/rpc/calls.ts', "import { isActive } from '../domains.ts';"],
    ['src/daemon/daemon.ts', "import { LibvirtHypervisor } from '../hypervisor/libvirt/libvirt.ts';"],
    ['src/replica/view.test.ts', "import { Lab } from '../../lab/hosts/lab.ts';"],
  ];
  for (const [path, text] of fine) assert.deepEqual(breaches([{ path, text }]), []);
});
