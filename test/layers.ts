/**
 * Import directions: what each room of src/ may import. Down only; see ARCHITECTURE.md. The rule is data, so that it can be read,
 * and tried on planted breaches.
 */
import { readFileSync } from 'node:fs';
import { dirname, join, normalize } from 'node:path';

const GROUND = ['lib', 'model'];
const PORTS = ['hypervisor', 'store', 'protocol', 'journal'];
const ENGINE = [...GROUND, 'lanes', 'deltalog', 'qemu', ...PORTS, 'digests'];

/** Room → rooms that it may import, besides itself. An adapter (`store/sqlite`) is a room of its own. */
export const LAYERS: Readonly<Record<string, readonly string[]>> = {
  lib: [],
  model: [],
  lanes: GROUND,
  deltalog: GROUND,
  qemu: GROUND,
  hypervisor: GROUND,
  'hypervisor/libvirt': [...GROUND, 'qemu', 'hypervisor'],
  'hypervisor/qsd': [...GROUND, 'qemu', 'hypervisor'],
  store: GROUND,
  'store/sqlite': [...GROUND, 'store'],
  'store/memory': [...GROUND, 'store'],
  journal: GROUND,
  security: GROUND,
  protocol: [...GROUND, 'deltalog'],
  'protocol/https': [...GROUND, 'lanes', 'deltalog', 'protocol', 'security'],
  digests: [...GROUND, 'lanes', 'qemu', 'protocol'],
  primary: ENGINE,
  replica: ENGINE,
  failover: [...ENGINE, 'primary', 'replica'],
  api: GROUND,
  server: [...GROUND, 'api'],
  cli: [...GROUND, 'api'],
};

/** Files that stand apart, and why. */
const EXCEPTIONS: Readonly<Record<string, readonly string[]>> = {
  // `understudy log inspect` reads a log without the daemon
  'src/cli/inspect-log.ts': ['deltalog'],
  'src/lib/version.ts': ['package.json'],
};

const ADAPTERS = Object.keys(LAYERS).filter((room) => room.includes('/'));

/** Room of a file under src/; undefined for `daemon`, which may import everything. */
function roomOf(file: string): string | undefined {
  const inside = file.slice('src/'.length);
  const adapter = ADAPTERS.find((room) => inside.startsWith(`${room}/`));
  return adapter ?? inside.split('/')[0];
}

/** Tests and what only tests use may import anything. */
function isForTests(file: string): boolean {
  return /\.test\.ts$|\.fixture\.ts$|\/testing(\/|\.ts$)/.test(file);
}

/** One line for each import that goes where it may not. @param read content by path. */
export function breaches(
  files: readonly string[],
  read: (file: string) => string = (file) => readFileSync(file, 'utf8'),
): string[] {
  const found: string[] = [];
  for (const file of files) {
    if (!file.startsWith('src/') || isForTests(file)) continue;
    const room = roomOf(file)!;
    if (room === 'daemon') continue;
    const allowed = LAYERS[room];
    if (allowed === undefined) {
      found.push(`${file}: the table has no room "${room}"`);
      continue;
    }
    for (const [, specifier] of read(file).matchAll(/(?:from|import)\s*\(?\s*'(\.{1,2}\/[^']+)'/g)) {
      const target = normalize(join(dirname(file), specifier!));
      const to = target.startsWith('src/') ? roomOf(target)! : target;
      if (to === room || allowed.includes(to) || EXCEPTIONS[file]?.includes(to)) continue;
      if (isForTests(target)) found.push(`${file}: imports ${target}, which is for tests`);
      else found.push(`${file}: ${room} → ${to} (${target})`);
    }
  }
  return found;
}
