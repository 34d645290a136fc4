/**
 * Bundles the daemon, the command line and their workers into dist/. npm packages stay outside.
 *   build.ts [--if-changed]
 */
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { build } from 'esbuild';

const ROOT = fileURLToPath(new URL('..', import.meta.url));
const DIST = join(ROOT, 'dist');
const STAMP = join(DIST, '.built-from');
const PROGRAMS = { understudy: 'src/cli/main.ts', understudyd: 'src/daemon/main.ts' };

function sources(): string[] {
  const inSrc = readdirSync(join(ROOT, 'src'), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts') && !file.endsWith('.test.ts'))
    .map((file) => join('src', file));
  return [...inSrc, 'package-lock.json', 'scripts/build.ts'].toSorted();
}

/** Changes when a source is added, removed or written. */
function signature(): string {
  const hash = createHash('sha256');
  for (const file of sources()) {
    const { mtimeMs, size } = statSync(join(ROOT, file));
    hash.update(`${file} ${mtimeMs} ${size}\n`);
  }
  return hash.digest('hex');
}

const now = signature();
const built = existsSync(STAMP) ? readFileSync(STAMP, 'utf8') : '';
if (!process.argv.includes('--if-changed') || built !== now) {
  for (const [program, entry] of Object.entries(PROGRAMS)) {
    if (!existsSync(join(ROOT, entry))) {
      console.error(`understudy: can't build ${program}: ${entry} does not exist`);
      process.exit(1);
    }
  }
  console.error('understudy: building dist/');
  rmSync(DIST, { recursive: true, force: true });
  const workers = sources()
    .filter((file) => file.endsWith('.worker.ts'))
    .map((file) => [basename(file, '.ts'), file]);
  await build({
    absWorkingDir: ROOT,
    entryPoints: { ...PROGRAMS, ...Object.fromEntries(workers) },
    outdir: DIST,
    outExtension: { '.js': '.mjs' },
    bundle: true,
    // A lane and its tasks are one program: what they share is there once. Two classes of one name would know nothing of each other.
    splitting: true,
    chunkNames: '[name]-[hash]',
    format: 'esm',
    platform: 'node',
    target: 'node24',
    packages: 'external',
    sourcemap: true,
    logLevel: 'warning',
  });
  mkdirSync(DIST, { recursive: true });
  writeFileSync(STAMP, now);
}
