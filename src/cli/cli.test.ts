import assert from 'node:assert/strict';
import { spawn, type ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, afterEach, beforeEach, describe, test } from 'node:test';
import { createMemoryWorld, type MemoryWorld } from '../api/testing/memory-operations.ts';
import { until } from '../lib/clock.ts';
import { silentLog } from '../lib/log.ts';
import { run, type Finished } from '../lib/process.ts';
import { Failure } from '../model/failure.ts';
import { serveApi, type ApiServer } from '../server/http.ts';

const MAIN = join(import.meta.dirname, 'main.ts');

/** Many short processes run the same code: compiled once, they start in half the time. */
const compileCache = mkdtempSync(join(tmpdir(), 'us-cli-compiled-'));
process.env['NODE_COMPILE_CACHE'] = compileCache;
after(() => rmSync(compileCache, { recursive: true, force: true }));

let directory: string;
let socketPath: string;
let server: ApiServer;
let world: MemoryWorld;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'us-cli-'));
  socketPath = join(directory, 'api.sock');
  world = createMemoryWorld();
  server = await serveApi({ socketPath, operations: world.operations, log: silentLog() });
});
afterEach(async () => {
  await server.close();
  rmSync(directory, { recursive: true, force: true });
});

const understudy = (...args: string[]): Promise<Finished> =>
  run(process.execPath, [MAIN, '--socket', socketPath, ...args], { timeoutMs: 20_000 });

async function said(...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await understudy(...args);
  assert.equal(code, 0, stderr);
  return stdout;
}

async function json(...args: string[]): Promise<unknown> {
  return JSON.parse(await said(...args, '--json')) as unknown;
}

void describe('what people read', () => {
  void test('tables are aligned, sizes and times readable, without colours in a pipe', async () => {
    const [head, row, ...rest] = (await said('replication', 'list')).split('\n');
    assert.deepEqual(rest, ['']);
    assert.match(head!, /^VM +ROLE +PEER +STATE +HEALTH +LAG +PENDING +CHANGED +SENT +EVERY$/);
    assert.match(row!, /^web01 +primary +host-b +Replicating +normal +3\.2 s +1\.5 MiB +1 MiB +256 KiB +5\.0 s$/);
    assert.equal(head!.indexOf('STATE'), row!.indexOf('Replicating'));
  });

  void test('status, VMs, peers, points', async () => {
    assert.match(
      await said('status'),
      /^host: +host-a$[^]*^running for: +1 h 2 min$[^]*3 GiB of 10 GiB free at \/srv/m,
    );
    assert.match(await said('vm', 'list'), /old +off +vda 1 GiB +not possible: vda: raw disks are not tracked/);
    assert.match(await said('peer', 'list'), /host-b +host-b:7443 +1 +abababab/);
    assert.match(await said('peer', 'check', 'host-b'), /answers in 1 ms; its clock differs by 3 ms/);
    assert.match(await said('point', 'list', 'web01'), /^ +41 .* crash-consistent +- +latest$/m);
  });

  void test('a relationship in full', async () => {
    const text = await said('replication', 'show', 'web01');
    assert.match(text, /^VM: +web01 \(6f1c1f0e-.*\), running on this host$/m);
    assert.match(text, /^disks: +vda {2}1 GiB {2}\/vm\/web01\.qcow2\n +vdb {2}512 MiB/m);
  });

  void test('a token stands alone on standard output', async () => {
    const { stdout, stderr } = await understudy('peer', 'token', '--minutes', '5');
    assert.equal(stdout, 'TOKEN\n');
    assert.match(stderr, /peer join TOKEN/);
  });

  void test('events, oldest first', async () => {
    world.addEvent('one', 'warning');
    world.addEvent('two');
    assert.match(await said('event', 'list'), /warning {3}test: one\n.*info {6}test: two\n$/);
  });
});

void describe('what machines read', () => {
  void test('every list and resource is the API’s', async () => {
    assert.deepEqual(await json('replication', 'list'), world.replications);
    assert.deepEqual(await json('replication', 'show', 'r1'), world.replications[0]);
    assert.deepEqual(await json('peer', 'list'), world.peers);
    assert.equal(((await json('status')) as { name: string }).name, 'host-a');
    assert.equal(((await json('vm', 'list')) as unknown[]).length, 3);
    assert.equal(((await json('point', 'list', 'r1')) as unknown[]).length, 2);
    assert.deepEqual(await json('peer', 'remove', 'host-b', '--yes'), { removed: 'host-b' });
  });

  void test('an action is answered when it has ended, or at once', async () => {
    const ended = (await json('failover', 'test', 'start', 'web01', '--point', '40')) as {
      state: string;
      result: object;
    };
    assert.equal(ended.state, 'done');
    assert.deepEqual(ended.result, {
      vmId: 'test',
      vmName: 'web01 - Test',
      point: 40,
      instant: Date.UTC(2026, 10, 21, 9, 15, 5),
    });
    const begun = (await json('failover', 'test', 'stop', 'web01', '--no-wait')) as { state: string };
    assert.equal(begun.state, 'running');
  });

  void test('an error is an object, and told on standard error too', async () => {
    const { code, stdout, stderr } = await understudy('replication', 'show', 'nope', '--json');
    assert.equal(code, 1);
    const { error } = JSON.parse(stdout) as { error: Record<string, string> };
    assert.deepEqual([error['code'], error['retry']], ['not-found', 'never']);
    assert.match(stderr, /^error: There is no relationship or VM "nope"\nhint: /);
  });
});

void describe('what is asked for', () => {
  void test('settings of a new relationship', async () => {
    await said(
      'replication',
      'enable',
      'db01',
      '--peer',
      'host-b',
      '--interval',
      '5m',
      '--exclude-disk',
      'vdb',
      '--no-wait',
    );
    const { intervalSeconds, history, disks } = world.replications[1]!;
    assert.deepEqual(
      { intervalSeconds, history, disks: disks.length },
      { intervalSeconds: 300, history: 24, disks: 1 },
    );
    await said('replication', 'set', 'db01', '--interval', '30', '--history', '2');
    assert.deepEqual([world.replications[1]!.intervalSeconds, world.replications[1]!.history], [30, 2]);
    await said('replication', 'set', 'db01', '--keep-hourly', '24', '--keep-weekly', '4');
    const thin = [
      { everySeconds: 3600, count: 24 },
      { everySeconds: 604_800, count: 4 },
    ];
    assert.deepEqual(world.replications[1]!.thin, thin);
    await said('replication', 'set', 'db01', '--history', '3');
    assert.deepEqual(world.replications[1]!.thin, thin, 'what is not named stays');
    await said('replication', 'set', 'db01', '--lease', '1m');
    assert.equal(world.replications[1]!.leaseSeconds, 60);
    await said('replication', 'set', 'db01', '--lease', 'off');
    assert.equal(world.replications[1]!.leaseSeconds, 0);
    const limited = await said('replication', 'set', 'db01', '--read-limit', '50MiB/s', '--read-iops', '500');
    assert.match(limited, /read at 50 MiB\/s and 500 reads\/s at most/);
    assert.match(await said('replication', 'show', 'db01'), /read limit: +50 MiB\/s and 500 reads\/s/);
    await said('replication', 'set', 'db01', '--read-limit', 'off');
    assert.deepEqual([world.replications[1]!.readBytesPerSecond, world.replications[1]!.readIops], [0, 500]);
    await said('replication', 'set', 'db01', '--read-iops', 'off');
    assert.doesNotMatch(await said('replication', 'show', 'db01'), /read limit/);
    await said('replication', 'set', 'db01', '--keep-daily', '0');
    assert.deepEqual(world.replications[1]!.thin, []);
  });

  void test('a rescan says what came of each replica', async () => {
    assert.match(await said('replica', 'rescan'), /r1 +web01 +host-b +rebuilt/);
    assert.match(await said('replica', 'seed', 'db01', '--peer', 'host-a'), /enable db01 --peer THIS-HOST --use-seed/);
    assert.match(await said('replica', 'seed', 'db01', '--withdraw'), /nobody's to begin with/);
    assert.match((await understudy('replica', 'seed', 'db01')).stderr, /either --peer or --withdraw/);
  });

  void test('enabling waits for the initial copy', async () => {
    const enabling = understudy('replication', 'enable', 'db01', '--peer', 'host-b');
    let isOver = false;
    void enabling.then(() => (isOver = true));
    await until(() => world.openStreams === 1, {
      timeoutMs: 10_000,
      everyMs: 5,
      onTimeout: () => new Error('not followed'),
    });
    assert.ok(!isOver);
    world.update('r2', { state: 'Replicating' });
    assert.match((await enabling).stdout, /^db01: Replicating; every 5 min, 24 recovery points, replica on host-b\n$/);
  });

  void test('an initial copy that nobody but a person can go on with fails', async () => {
    const enabling = understudy('replication', 'enable', 'db01', '--peer', 'host-b');
    await until(() => world.openStreams === 1, {
      timeoutMs: 10_000,
      everyMs: 5,
      onTimeout: () => new Error('not followed'),
    });
    world.update('r2', { failure: new Failure('unreachable', 'heals by itself').toJSON() });
    world.update('r2', { failure: new Failure('peer-refused', 'host-b refuses us').toJSON() });
    const { code, stderr } = await enabling;
    assert.equal(code, 1);
    assert.match(stderr, /error: host-b refuses us\nhint: Pair the two hosts/);
  });

  void test('a comparison: when it begins, why it waits, given up', async () => {
    await said('replication', 'set', 'web01', '--auto-resync', '18:30-06:00');
    assert.equal(world.replications[0]!.autoResync, '18:30-06:00');
    const { stderr } = await understudy('replication', 'set', 'web01', '--auto-resync', 'tonight');
    assert.match(stderr, /autoResync: always, never, or a window of the day/);
    world.update('r1', {
      state: 'WaitingForStartResynchronize',
      resync: { reason: 'vda has lost its bitmap', begin: 'by-policy', beginsAt: null },
    });
    const sheet = await said('replication', 'show', 'web01');
    assert.match(sheet, /vda has lost its bitmap\n +begin it with `understudy replication resync web01`/);
    assert.match(await said('replication', 'cancel-resync', 'web01'), /^web01: WaitingForStartResynchronize/);
  });

  void test('suspend, resume, export, reverse', async () => {
    assert.match(await said('replication', 'suspend', 'web01'), /^web01: Suspended/);
    assert.match(await said('replication', 'resume', 'web01'), /^web01: Replicating/);
    assert.match(
      await said('point', 'export', 'web01', '40', '--disk', 'vda', '--file', '/tmp/x'),
      /^written: \/tmp\/x$/m,
    );
    assert.match(await said('failover', 'reverse', 'web01'), /^web01 is replicated from this host now$/m);
    assert.match(await said('action', 'list'), /web01 +reverse +done +action-2/);
    assert.match(await said('action', 'watch', 'action-1'), /^point-export of web01 is done$/m);
  });

  void test('an action shows its steps; one that is undone fails with its reason', async () => {
    const good = await understudy('failover', 'complete', 'web01', '--yes');
    assert.equal(good.stderr, 'done    Make ready (1.2 s)\ndone    Do it (1.2 s)\n');
    world.nextFailure = new Failure('no-space', 'No room on /srv');
    const bad = await understudy('failover', 'cancel', 'web01', '--yes');
    assert.equal(bad.code, 1);
    assert.match(bad.stderr, /^failed {2}Do it \(1\.2 s\)\nerror: No room on \/srv\nhint: Make room/m);
    world.nextFailure = new Failure('unreachable', 'host-b does not answer');
    assert.equal((await understudy('peer', 'check', 'host-b')).code, 1);
  });
});

void describe('exit codes', () => {
  void test('2 for wrong usage, before the daemon is asked', async () => {
    const wrong = [
      ['nope'],
      ['replication', 'enable', 'db01'],
      ['replication', 'set', 'r1', '--interval', 'soon'],
      ['replication', 'set', 'r1', '--interval', '3'],
      ['point', 'export', 'r1', '40', '--disk', 'vda', '--file', 'relative'],
    ];
    for (const args of wrong) {
      const { code, stderr } = await understudy(...args);
      assert.equal(code, 2, args.join(' '));
      assert.match(stderr, /error: |Usage: /);
    }
  });

  void test('3 when the daemon cannot be reached, and the environment names the socket', async () => {
    const missing = join(directory, 'missing.sock');
    const { code, stderr } = await understudy('--socket', missing, 'status');
    assert.equal(code, 3);
    assert.match(stderr, /error: understudyd does not answer on .*missing\.sock[^]*hint: Start understudyd/);
    const environment = { ...process.env, UNDERSTUDY_SOCKET: socketPath };
    const child = spawn(process.execPath, [MAIN, 'status'], { env: environment, stdio: 'ignore' });
    assert.deepEqual(await once(child, 'close'), [0, null]);
  });

  void test('1 when the daemon dies over a request: it may have been carried out', async () => {
    const dying = createServer((connection) => connection.once('data', () => connection.destroy()));
    const path = join(directory, 'dying.sock');
    dying.listen(path);
    await once(dying, 'listening');
    const { code, stderr } = await understudy('--socket', path, 'replication', 'suspend', 'web01');
    dying.close();
    assert.equal(code, 1);
    assert.match(stderr, /error: understudyd went away before it answered\nhint: .* may or may not have been done/);
  });

  void test('1 when the daemon stops while it is followed', async () => {
    const watching = understudy('replication', 'watch');
    await until(() => world.openStreams === 1, {
      timeoutMs: 10_000,
      everyMs: 5,
      onTimeout: () => new Error('not open'),
    });
    await server.close();
    const { code, stderr } = await watching;
    assert.equal(code, 1);
    assert.match(stderr, /error: understudyd ended the stream\nhint: .*goes on by itself/);
  });

  void test('0 for help and version', async () => {
    assert.match(await said('--help'), /^Usage: understudy/);
    assert.match(await said('--version'), /^\d+\.\d+\.\d+\n$/);
  });
});

void describe('consent', () => {
  const dangerous = [
    ['replication', 'remove', 'web01'],
    ['failover', 'unplanned', 'web01'],
    ['failover', 'planned', 'web01'],
    ['failover', 'cancel', 'web01'],
    ['failover', 'complete', 'web01'],
    ['peer', 'remove', 'host-b'],
  ];

  void test('nothing dangerous happens without a terminal and without --yes', async () => {
    for (const args of dangerous) {
      const { code, stderr } = await understudy(...args);
      assert.equal(code, 2, args.join(' '));
      assert.match(stderr, /hint: Give consent with --yes/);
    }
    assert.deepEqual(await json('action', 'list'), []);
    assert.equal(world.replications.length + world.peers.length, 2);
  });

  void test('--yes is consent', async () => {
    assert.match(await said('failover', 'unplanned', 'web01', '--yes'), /^web01 runs here, as of 2026-/m);
    assert.match(await said('failover', 'planned', 'web01', '--yes'), /^web01 runs on host-b; nothing was lost$/m);
    await said('replication', 'remove', 'web01', '--yes');
    assert.equal(world.replications.length, 0);
  });

  void test('--force is not consent, and it reaches the daemon', async () => {
    assert.equal((await understudy('failover', 'unplanned', 'r1', '--force')).code, 2);
    assert.equal((await understudy('failover', 'unplanned', 'r1', '--yes')).code, 1);
    assert.equal((await understudy('failover', 'unplanned', 'r1', '--yes', '--force')).code, 0);
  });

  void test('on a terminal it asks; only yes is yes', async () => {
    const refusal = await onTerminal(['replication', 'remove', 'web01'], 'n\n');
    assert.match(refusal, /deletes all recovery points and the disks of the replica\.[^]*\[y\/N\]/);
    assert.equal(world.replications.length, 1);
    await onTerminal(['replication', 'remove', 'web01'], 'y\n');
    assert.equal(world.replications.length, 0);
  });
});

void describe('live', () => {
  void test('colours and redrawing only on a terminal, never with NO_COLOR', async () => {
    assert.ok((await onTerminal(['replication', 'list'], '')).includes('\x1b[32mnormal'));
    assert.ok(!(await onTerminal(['replication', 'list'], '', { NO_COLOR: '1' })).includes('\x1b['));
  });

  void test('watch gives a line, or an object, for every update', async () => {
    const lines = await followed(['replication', 'watch', 'web01', '--json'], 2, () =>
      world.update('r1', { lagMs: 9000 }),
    );
    assert.deepEqual(
      lines.map((line) => (JSON.parse(line) as { lagMs: number }).lagMs),
      [3200, 9000],
    );
    const [text] = await followed(['replication', 'watch'], 1, () => undefined);
    assert.match(text!, /web01 {2}Replicating {2}normal {2}lag 9\.0 s/);
  });

  void test('events are followed from those that were, without a gap', async () => {
    world.addEvent('before');
    const lines = await followed(['event', 'list', '--follow'], 2, () => world.addEvent('after'));
    assert.match(lines.join('\n'), /test: before\n.*test: after/);
  });
});

/** Runs a command that doesn't end, does `change` once the stream is open, and ends it after `count` lines. */
async function followed(args: string[], count: number, change: () => unknown): Promise<string[]> {
  const child = spawn(process.execPath, [MAIN, '--socket', socketPath, ...args], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  let text = '';
  child.stdout.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
  const lines = (): string[] => text.split('\n').slice(0, -1);
  const waiting = { timeoutMs: 10_000, everyMs: 5, onTimeout: () => new Error(`only ${text}`) };
  try {
    await until(() => world.openStreams === 1 && lines().length > 0, waiting);
    change();
    await until(() => lines().length >= count, waiting);
  } finally {
    await end(child);
  }
  await until(() => world.openStreams === 0, waiting);
  return lines();
}

/** Runs a command on a terminal of its own (`script`, of bsdutils, makes one) and gives all that it showed. */
async function onTerminal(args: string[], typed: string, environment: Record<string, string> = {}): Promise<string> {
  const command = [process.execPath, MAIN, '--socket', socketPath, ...args].map((part) => `'${part}'`).join(' ');
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

async function end(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const closed = once(child, 'close');
  child.kill('SIGKILL');
  await closed;
}
