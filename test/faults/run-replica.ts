/** A replica in a process of its own (replica-process.ts), which dies where a test wants it to. */
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import type { WhoDies } from './dying.ts';
import type { Place } from './replica-host.ts';
import type { MadeLog } from './replica-primary.ts';

/** Runs a replica that takes `log`, if there is one, until it ends; gives the signal that ended it. */
export async function runReplica(
  place: Place,
  log: MadeLog | undefined,
  options: { crash?: string; dies?: WhoDies; killAfterMs?: number },
): Promise<string | null> {
  const path = join(place.directory, 'log');
  if (log !== undefined) await writeFile(path, log.bytes);
  const { directory, runDirectory } = place.options;
  const script = join(import.meta.dirname, 'replica-process.ts');
  // Into its lanes, too: they have crash points of their own.
  const preload = ['--import', join(import.meta.dirname, 'dying.ts')];
  const taken = log === undefined ? [] : [path, String(log.sequence), log.logId];
  const what = [directory, runDirectory, ...taken];
  const child = spawn(process.execPath, [...preload, script, ...what], {
    stdio: ['ignore', 'ignore', 'inherit'],
    env: {
      ...process.env,
      DIES: options.dies ?? 'daemon',
      ...(options.crash === undefined ? {} : { UNDERSTUDY_CRASH: options.crash }),
    },
  });
  const exit = once(child, 'exit') as Promise<[number | null, string | null]>;
  if (options.killAfterMs !== undefined) {
    await Promise.race([exit, delay(options.killAfterMs)]);
    child.kill('SIGKILL');
  }
  const [code, signal] = await exit;
  assert.ok(code === 0 || signal === 'SIGKILL', `the replica's process ended with ${code} ${signal}`);
  return signal;
}
