import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, beforeEach } from 'node:test';
import { createMemoryWorld, type MemoryWorld } from '../api/testing/memory-operations.ts';
import { until } from '../lib/clock.ts';
import { silentLog } from '../lib/log.ts';
import { run, type Finished } from '../lib/process.ts';
import { serveApi, type ApiServer } from '../server/http.ts';

export const MAIN = join(import.meta.dirname, 'main.ts');

/** The CLI as it is, on a daemon's API whose operations are in memory: new for each test of the file that makes it. */
export class CliOnMemory {
  directory!: string;
  socketPath!: string;
  server!: ApiServer;
  world!: MemoryWorld;

  constructor() {
    // Many short processes run the same code: compiled once, they start in half the time.
    const compileCache = mkdtempSync(join(tmpdir(), 'us-cli-compiled-'));
    process.env['NODE_COMPILE_CACHE'] = compileCache;
    after(() => rmSync(compileCache, { recursive: true, force: true }));
    beforeEach(async () => {
      this.directory = mkdtempSync(join(tmpdir(), 'us-cli-'));
      this.socketPath = join(this.directory, 'api.sock');
      this.world = createMemoryWorld();
      this.server = await serveApi({
        socketPath: this.socketPath,
        operations: this.world.operations,
        log: silentLog(),
      });
    });
    afterEach(async () => {
      await this.server.close();
      rmSync(this.directory, { recursive: true, force: true });
    });
  }

  understudy(...args: string[]): Promise<Finished> {
    return run(process.execPath, [MAIN, '--socket', this.socketPath, ...args], { timeoutMs: 20_000 });
  }

  async said(...args: string[]): Promise<string> {
    const { code, stdout, stderr } = await this.understudy(...args);
    assert.equal(code, 0, stderr);
    return stdout;
  }

  async json(...args: string[]): Promise<unknown> {
    return JSON.parse(await this.said(...args, '--json')) as unknown;
  }

  /** Runs a command that doesn't end, does `change` once the stream is open, and ends it after `count` lines. */
  async followed(args: string[], count: number, change: () => unknown): Promise<string[]> {
    const child = spawn(process.execPath, [MAIN, '--socket', this.socketPath, ...args], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    const lines = (): string[] => text.split('\n').slice(0, -1);
    const waiting = { timeoutMs: 10_000, everyMs: 5, onTimeout: () => new Error(`only ${text}`) };
    try {
      await until(() => this.world.openStreams === 1 && lines().length > 0, waiting);
      change();
      await until(() => lines().length >= count, waiting);
    } finally {
      await end(child);
    }
    await until(() => this.world.openStreams === 0, waiting);
    return lines();
  }

  /** Runs a command on a terminal of its own (`script`, of bsdutils, makes one) and gives all that it showed. */
  async onTerminal(args: string[], typed: string, environment: Record<string, string> = {}): Promise<string> {
    const command = [process.execPath, MAIN, '--socket', this.socketPath, ...args].map((part) => `'${part}'`).join(' ');
    const child = spawn('script', ['--quiet', '--return', '--command', command, '/dev/null'], {
      env: { ...process.env, TERM: 'xterm', ...environment },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (chunk: string) => {
      text += chunk;
      if (text.includes('[y/N]') && typed !== '') child.stdin.end(typed);
    });
    try {
      await once(child, 'close', { signal: AbortSignal.timeout(10_000) });
    } finally {
      await end(child);
    }
    return text;
  }
}

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = once(child, 'close');
  child.kill('SIGKILL');
  await closed;
}
