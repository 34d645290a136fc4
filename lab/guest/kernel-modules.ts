import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Failure } from '../../src/model/failure.ts';
import { run } from '../../src/lib/process.ts';

export interface KernelModule {
  readonly name: string;
  readonly content: Uint8Array;
}

const SUFFIX = /\.ko(\.xz|\.zst)?$/;
const UNPACK: Readonly<Record<string, string>> = { '.xz': 'xz', '.zst': 'zstd' };

/** A module's one name: file names and dependencies mix `-` and `_`. */
const canonical = (name: string): string => name.replaceAll('-', '_');

/**
 * The wanted modules and those they need, in an order in which they can be loaded. What is built into the kernel is
 * left out. `directory` is an unpacked package's /lib/modules/VERSION.
 */
export async function selectModules(directory: string, wanted: readonly string[]): Promise<KernelModule[]> {
  const files = new Map<string, string>();
  for (const file of readdirSync(directory, { recursive: true, encoding: 'utf8' })) {
    if (SUFFIX.test(file)) files.set(canonical(nameOf(file)), join(directory, file));
  }
  const builtIn = new Set(
    readFileSync(join(directory, 'modules.builtin'), 'utf8')
      .split('\n')
      .map((file) => canonical(nameOf(file))),
  );

  const chosen = new Map<string, KernelModule>();
  const visit = async (name: string): Promise<void> => {
    if (chosen.has(name) || builtIn.has(name)) return;
    const file = files.get(name);
    if (file === undefined) throw new Failure('not-found', `the kernel package has no module "${name}"`);
    const content = await readModule(file);
    for (const dependency of dependencies(content)) await visit(dependency);
    chosen.set(name, { name, content });
  };
  for (const name of wanted) await visit(canonical(name));
  return [...chosen.values()];
}

function nameOf(file: string): string {
  return file.slice(file.lastIndexOf('/') + 1).replace(SUFFIX, '');
}

async function readModule(file: string): Promise<Buffer> {
  const tool = UNPACK[SUFFIX.exec(file)?.[1] ?? ''];
  if (tool === undefined) return readFileSync(file);
  const plain = file.replace(/\.(xz|zst)$/, '');
  const { code, stderr } = await run(tool, ['-d', '-q', '-f', '-k', file]);
  if (code !== 0) throw new Failure('internal', `${tool} can't unpack ${file}: ${stderr}`);
  return readFileSync(plain);
}

/** From the module's own .modinfo, a list of NUL-terminated `key=value`. */
export function dependencies(content: Buffer): string[] {
  const values = (key: string): string[] => {
    const found: string[] = [];
    const needle = Buffer.from(`\0${key}=`);
    for (let at = content.indexOf(needle); at >= 0; at = content.indexOf(needle, at + 1)) {
      const start = at + needle.length;
      found.push(content.toString('latin1', start, content.indexOf(0, start)));
    }
    return found;
  };
  const hard = values('depends').flatMap((list) => list.split(','));
  return hard.filter((name) => name !== '').map(canonical);
}
