/** Peers that are programs: started, waited for, their CPU counted with that of the storage daemons that they talk to. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { Failure } from '../../src/model/failure.ts';
import { cpuSeconds } from '../measure/processes.ts';
import type { Sample } from '../measure/samples.ts';

/** Debian's own, whose modules its packages bring; another may come first in PATH. */
const PYTHON = '/usr/bin/python3';
const LOOP = fileURLToPath(new URL('libnbd-loop.py', import.meta.url));

/** @param others processes that work for it, whose CPU counts too. The program's last line of output, if a number, is `wireBytes`. */
export async function runMeasured(
  program: string,
  args: readonly string[],
  others: readonly number[],
): Promise<Sample> {
  const before = cpuSeconds(others);
  const started = performance.now();
  // its CPU time is known only as that of a child that has ended: a shell in between is asked for it
  const child = spawn('sh', ['-c', '"$0" "$@"; code=$?; times >&2; exit $code', program, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let stdout = '';
  let stderr = '';
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const [code] = (await once(child, 'close')) as [number | null];
  if (code !== 0) throw new Failure('io', `${program} ${args.join(' ')} ended with ${code}: ${stderr.trim()}`);
  const seconds = (performance.now() - started) / 1000;
  const said = Number(stdout.trim().split('\n').at(-1));
  const figures = stdout.trim() !== '' && Number.isFinite(said) ? { wireBytes: said } : {};
  return { seconds, cpuSeconds: cpuSeconds(others) - before + childTime(stderr), figures };
}

/** Last line of the shell's `times`: user and system time of its children, as 0m1.234000s. */
function childTime(text: string): number {
  const last = text.trim().split('\n').at(-1) ?? '';
  return [...last.matchAll(/(\d+)m([\d.]+)s/g)].reduce((sum, [, m, s]) => sum + Number(m) * 60 + Number(s), 0);
}

/** The single-threaded loop over libnbd with lz4, to a file or an NBD export. */
export async function libnbdLoop(
  source: { socketPath: string; exportName: string; context: string },
  out: string,
  others: readonly number[],
): Promise<Sample> {
  return await runMeasured(PYTHON, [LOOP, source.socketPath, source.exportName, source.context, out], others);
}
