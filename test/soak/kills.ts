/** kill -9 of the daemon, of its storage daemons, of both, at every crash point that there is: the tests' own, without their choice. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { globSync } from 'node:fs';
import { join } from 'node:path';
import type { Campaign } from './campaign.ts';

const ROOT = join(import.meta.dirname, '../..');
const TESTS = ['test/faults/*crash.qemu.test.ts', 'test/faults/replica-materialise.qemu.test.ts'];

export const kills: Campaign = {
  name: 'kills',
  about: 'kill -9 of the daemon and of its storage daemons at every crash point',
  async round({ seed, progress }) {
    const files = globSync(TESTS, { cwd: ROOT }).toSorted();
    for (const file of files) {
      progress(file);
      const env = { ...process.env, CRASHES: 'all', SEED: String(seed) };
      const child = spawn(process.execPath, ['--test', file], { cwd: ROOT, env, stdio: ['ignore', 'pipe', 'inherit'] });
      const output: Buffer[] = [];
      child.stdout.on('data', (chunk: Buffer) => output.push(chunk));
      const [code] = (await once(child, 'close')) as [number | null];
      if (code !== 0) throw new Error(`${file}:\n${Buffer.concat(output).toString()}`);
    }
    return `${files.length} files of tests, every crash point`;
  },
};
