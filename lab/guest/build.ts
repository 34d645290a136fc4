import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  readdirSync,
  realpathSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Failure } from '../../src/model/failure.ts';
import { run } from '../../src/lib/process.ts';
import { type Entry, cpio } from './cpio.ts';
import { selectModules } from './kernel-modules.ts';
import { dependencyOf, unpackPackages, withLibraries, withPackageLists } from './packages.ts';

const HERE = fileURLToPath(new URL('.', import.meta.url));
const ROOTFS = join(HERE, 'rootfs');
const CACHE = fileURLToPath(new URL('../../.cache/guest/', import.meta.url));
const PACKAGES = ['busybox-static', 'qemu-guest-agent', 'perl-base'];
const MODULES = ['virtio_pci', 'virtio_blk', 'virtio_net', 'virtio_console', 'virtio_rng', 'button', 'evdev', 'ext4'];

/** The test guest: boots with both of these and needs nothing else but its disks. */
export interface GuestFiles {
  readonly kernel: string;
  readonly initrd: string;
}

/** The test guest from the cache, or made now from Debian packages (some seconds, and a network). */
export async function guestFiles(say: (line: string) => void = () => undefined): Promise<GuestFiles> {
  if (process.arch !== 'x64')
    throw new Failure('missing-program', `no test guest for ${process.arch} yet, only for x64`);
  const directory = join(CACHE, inputsHash());
  const files = { kernel: join(directory, 'vmlinuz'), initrd: join(directory, 'initrd') };
  if (existsSync(directory)) return files;

  say('Building the test guest from Debian packages (kernel, busybox, guest agent, perl) …');
  const work = mkdtempSync(join(tmpdir(), 'us-guest-'));
  try {
    const root = join(work, 'root');
    const image = await withPackageLists(async () => {
      const kernel = await dependencyOf('linux-image-cloud-amd64', 'linux-image-');
      await unpackPackages([...(await withLibraries(PACKAGES)), kernel], join(work, 'packages'), root);
      return kernel;
    });
    const boot = readdirSync(join(root, 'boot')).find((name) => name.startsWith('vmlinuz'));
    if (boot === undefined) throw new Failure('not-found', `${image} has no kernel in /boot`);

    const made = join(work, 'made');
    mkdirSync(made);
    writeFileSync(join(made, 'vmlinuz'), readFileSync(join(root, 'boot', boot)));
    writeFileSync(join(made, 'initrd'), cpio(await initrdEntries(root)));
    publish(made, directory);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
  return files;
}

/** Everything of ours that the guest is made from, and the Debian release that it comes from. */
function inputsHash(): string {
  const hash = createHash('sha256');
  const ours = readdirSync(HERE, { recursive: true, encoding: 'utf8' }).filter(
    (file) => file.startsWith('rootfs') || /^(build|cpio|kernel-modules|packages)\.ts$/.test(file),
  );
  for (const file of ours.toSorted()) {
    const path = join(HERE, file);
    if (statSync(path).isFile()) hash.update(file).update('\0').update(readFileSync(path));
  }
  return hash.update(readFileSync('/etc/os-release')).digest('hex').slice(0, 16);
}

/** Another process may have been as quick: then its result is as good. */
function publish(made: string, directory: string): void {
  mkdirSync(CACHE, { recursive: true });
  const staged = mkdtempSync(join(CACHE, 'new-'));
  for (const name of readdirSync(made)) writeFileSync(join(staged, name), readFileSync(join(made, name)));
  try {
    renameSync(staged, directory);
  } catch (error) {
    rmSync(staged, { recursive: true, force: true });
    if (!existsSync(directory)) throw error;
  }
  for (const old of readdirSync(CACHE)) {
    if (/^[0-9a-f]{16}$/.test(old) && join(CACHE, old) !== directory) rmSync(join(CACHE, old), { recursive: true });
  }
}

async function initrdEntries(root: string): Promise<Entry[]> {
  const files = new Map<string, { content: Uint8Array; mode: number }>();
  const add = (path: string, content: Uint8Array, mode: number) => files.set(path, { content, mode });
  const find = (...candidates: string[]): string => {
    const found = candidates.map((path) => join(root, path)).find((path) => existsSync(path));
    if (found === undefined)
      throw new Failure('not-found', `the Debian packages have none of ${candidates.join(', ')}`);
    return found;
  };

  add('bin/busybox', readFileSync(find('bin/busybox', 'usr/bin/busybox')), 0o755);
  const programs = { 'bin/qemu-ga': find('usr/sbin/qemu-ga', 'usr/bin/qemu-ga'), 'bin/perl': find('usr/bin/perl') };
  const loader = find(
    'lib64/ld-linux-x86-64.so.2',
    'usr/lib64/ld-linux-x86-64.so.2',
    'lib/x86_64-linux-gnu/ld-linux-x86-64.so.2',
  );
  for (const [path, program] of Object.entries(programs)) {
    add(path, readFileSync(program), 0o755);
    for (const library of await librariesOf(program, loader, root)) {
      add(`lib/x86_64-linux-gnu/${library.name}`, readFileSync(library.path), 0o644);
    }
  }
  add('lib64/ld-linux-x86-64.so.2', readFileSync(realpathSync(loader)), 0o755);
  add(
    'usr/lib/x86_64-linux-gnu/perl-base/strict.pm',
    readFileSync(find('usr/lib/x86_64-linux-gnu/perl-base/strict.pm')),
    0o644,
  );

  const versions = find('lib/modules', 'usr/lib/modules');
  const modules = await selectModules(join(versions, readdirSync(versions)[0]!), MODULES);
  for (const { name, content } of modules) add(`lib/modules/${name}.ko`, content, 0o644);
  add('lib/modules/order', Buffer.from(modules.map(({ name }) => `${name}.ko\n`).join('')), 0o644);

  for (const file of readdirSync(ROOTFS, { recursive: true, encoding: 'utf8' })) {
    const path = join(ROOTFS, file);
    if (statSync(path).isFile()) add(file, readFileSync(path), 0o755);
  }

  const directories = new Set<string>();
  for (const path of files.keys()) {
    for (let parent = dirname(path); parent !== '.'; parent = dirname(parent)) directories.add(parent);
  }
  return [
    ...[...directories].toSorted().map((path): Entry => ({ path, kind: 'directory' })),
    ...[...files.keys()].toSorted().map((path): Entry => ({ path, kind: 'file', ...files.get(path)! })),
  ];
}

/** By the word of the packages' own loader: names as the program asks for them, and where they are. */
async function librariesOf(program: string, loader: string, root: string): Promise<{ name: string; path: string }[]> {
  const places = ['lib/x86_64-linux-gnu', 'usr/lib/x86_64-linux-gnu'].map((path) => join(root, path));
  const { code, stdout, stderr } = await run(realpathSync(loader), [
    '--library-path',
    places.join(':'),
    '--list',
    program,
  ]);
  if (code !== 0) throw new Failure('not-found', `libraries of ${program}: ${stderr || stdout}`);
  return [...stdout.matchAll(/^\s*(\S+) => (\S+)/gm)].map(([, name, path]) => ({ name: name!, path: path! }));
}
