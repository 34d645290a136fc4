import { mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { Failure } from '../../src/model/failure.ts';
import { run } from '../../src/lib/process.ts';

async function must(program: string, args: readonly string[], what: string): Promise<string> {
  const { code, stdout, stderr } = await run(program, args);
  if (code !== 0) {
    throw new Failure('missing-program', `${what}: ${program} ${args.join(' ')}: ${stderr.trim()}`, {
      hint: 'The test guest is made of Debian packages: check the network and /etc/apt/sources.list, then `apt-get update`.',
    });
  }
  return stdout;
}

/** Does what needs Debian's package lists; if it fails, once more with fresh ones: a new machine may have none, an old one stale ones. */
export async function withPackageLists<T>(work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (!(error instanceof Failure) || error.code !== 'missing-program') throw error;
    await must('apt-get', ['update', '-q'], error.message);
    return await work();
  }
}

/** The package that a meta-package stands for: its first dependency with that prefix. */
export async function dependencyOf(meta: string, prefix: string): Promise<string> {
  const text = await must('apt-cache', ['depends', meta], `no package ${meta}`);
  const name = new RegExp(`Depends: (${prefix}\\S*)`).exec(text)?.[1];
  if (name === undefined) throw new Failure('missing-program', `${meta} depends on nothing like ${prefix}*`);
  return name;
}

/** The packages and the libraries that they need, by Debian's own word; names differ between releases. */
export async function withLibraries(packages: readonly string[]): Promise<string[]> {
  const only = ['recommends', 'suggests', 'conflicts', 'breaks', 'replaces', 'enhances'].map((kind) => `--no-${kind}`);
  const text = await must('apt-cache', ['depends', '--recurse', ...only, ...packages], 'no such packages');
  const names = text.split('\n').filter((line) => /^lib[^ ]+$/.test(line) && !/perl/.test(line));
  return [...new Set([...packages, ...names])];
}

/** Downloads packages into `directory` and unpacks them all below `root`. Installs nothing. */
export async function unpackPackages(packages: readonly string[], directory: string, root: string): Promise<void> {
  mkdirSync(directory, { recursive: true });
  mkdirSync(root, { recursive: true });
  await must(
    'sh',
    [
      '-c',
      'cd "$1" && shift && exec apt-get download -q -o APT::Sandbox::User=root "$@"',
      'sh',
      directory,
      ...packages,
    ],
    'download failed',
  );
  for (const file of readdirSync(directory)) await must('dpkg-deb', ['-x', join(directory, file), root], 'unpacking');
}
