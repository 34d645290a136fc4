import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { until } from '../lib/clock.ts';
import { CliOnMemory, MAIN } from './cli.fixture.ts';

const cli = new CliOnMemory();

void describe('what people read', () => {
  void test('tables are aligned, sizes and times readable, without colours in a pipe', async () => {
    const [head, row, ...rest] = (await cli.said('replication', 'list')).split('\n');
    assert.deepEqual(rest, ['']);
    assert.match(head!, /^VM +ROLE +PEER +STATE +HEALTH +LAG +PENDING +CHANGED +SENT +EVERY$/);
    assert.match(row!, /^web01 +primary +host-b +Replicating +normal +3\.2 s +1\.5 MiB +1 MiB +256 KiB +5\.0 s$/);
    assert.equal(head!.indexOf('STATE'), row!.indexOf('Replicating'));
  });

  void test('status, VMs, peers, points', async () => {
    assert.match(
      await cli.said('status'),
      /^host: +host-a$[^]*^running for: +1 h 2 min$[^]*3 GiB of 10 GiB free at \/srv/m,
    );
    assert.match(await cli.said('vm', 'list'), /old +off +vda 1 GiB +not possible: vda: raw disks are not tracked/);
    assert.match(await cli.said('peer', 'list'), /host-b +host-b:7443 +1 +abababab/);
    assert.match(await cli.said('peer', 'check', 'host-b'), /answers in 1 ms; its clock differs by 3 ms/);
    assert.match(await cli.said('point', 'list', 'web01'), /^ +41 .* crash-consistent +- +latest$/m);
  });

  void test('a relationship in full', async () => {
    const text = await cli.said('replication', 'show', 'web01');
    assert.match(text, /^VM: +web01 \(6f1c1f0e-.*\), running on this host$/m);
    assert.match(text, /^disks: +vda {2}1 GiB {2}\/vm\/web01\.qcow2\n +vdb {2}512 MiB/m);
  });

  void test('a token stands alone on standard output', async () => {
    const { stdout, stderr } = await cli.understudy('peer', 'token', '--minutes', '5');
    assert.equal(stdout, 'TOKEN\n');
    assert.match(stderr, /peer join TOKEN/);
  });

  void test('the doctor: all that was looked at, and the cures below; it fails when something is critical', async () => {
    assert.match(
      await cli.said('doctor'),
      /^LOOKED AT +VERDICT +FOUND\nKVM +ok +\/dev\/kvm is there\n\nNothing has to be done\.\n$/,
    );
    cli.world.findings = [
      ...cli.world.findings,
      {
        severity: 'critical',
        subject: 'rights: points in time',
        found: "it can't pass /root",
        cure: 'chmod o+x /root',
      },
    ];
    const { code, stdout, stderr } = await cli.understudy('doctor', '--peer', 'host-b');
    assert.equal(code, 1);
    assert.match(stdout, /\n\ncritical: rights: points in time: it can't pass \/root\n {2}chmod o\+x \/root\n$/);
    assert.match(stderr, /^error: 1 finding is critical\nhint: /);
    const json = await cli.understudy('doctor', '--json');
    assert.deepEqual(JSON.parse(json.stdout), { worst: 'critical', findings: cli.world.findings });
    assert.equal(json.code, 1);
    assert.match(await cli.said('doctor', 'web01'), /^Nothing was looked at/, 'the VM reaches the daemon');
  });

  void test('events, oldest first', async () => {
    cli.world.addEvent('one', 'warning');
    cli.world.addEvent('two');
    assert.match(await cli.said('event', 'list'), /warning {3}test: one\n.*info {6}test: two\n$/);
  });
});

void describe('what machines read', () => {
  void test('every list and resource is the API’s', async () => {
    assert.deepEqual(await cli.json('replication', 'list'), cli.world.replications);
    assert.deepEqual(await cli.json('replication', 'show', 'r1'), cli.world.replications[0]);
    assert.deepEqual(await cli.json('peer', 'list'), cli.world.peers);
    assert.equal(((await cli.json('status')) as { name: string }).name, 'host-a');
    assert.equal(((await cli.json('vm', 'list')) as unknown[]).length, 3);
    assert.equal(((await cli.json('point', 'list', 'r1')) as unknown[]).length, 2);
    assert.deepEqual(await cli.json('peer', 'remove', 'host-b', '--yes'), { removed: 'host-b' });
  });

  void test('an action is answered when it has ended, or at once', async () => {
    const ended = (await cli.json('failover', 'test', 'start', 'web01', '--point', '40')) as {
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
    const begun = (await cli.json('failover', 'test', 'stop', 'web01', '--no-wait')) as { state: string };
    assert.equal(begun.state, 'running');
  });

  void test('an error is an object, and told on standard error too', async () => {
    const { code, stdout, stderr } = await cli.understudy('replication', 'show', 'nope', '--json');
    assert.equal(code, 1);
    const { error } = JSON.parse(stdout) as { error: Record<string, string> };
    assert.deepEqual([error['code'], error['retry']], ['not-found', 'never']);
    assert.match(stderr, /^error: There is no relationship or VM "nope"\nhint: /);
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
      const { code, stderr } = await cli.understudy(...args);
      assert.equal(code, 2, args.join(' '));
      assert.match(stderr, /error: |Usage: /);
    }
  });

  void test('3 when the daemon cannot be reached, and the environment names the socket', async () => {
    const missing = join(cli.directory, 'missing.sock');
    const { code, stderr } = await cli.understudy('--socket', missing, 'status');
    assert.equal(code, 3);
    assert.match(stderr, /error: understudyd does not answer on .*missing\.sock[^]*hint: Start understudyd/);
    const environment = { ...process.env, UNDERSTUDY_SOCKET: cli.socketPath };
    const child = spawn(process.execPath, [MAIN, 'status'], { env: environment, stdio: 'ignore' });
    assert.deepEqual(await once(child, 'close'), [0, null]);
  });

  void test('1 when the daemon dies over a request: it may have been carried out', async () => {
    const dying = createServer((connection) => connection.once('data', () => connection.destroy()));
    const path = join(cli.directory, 'dying.sock');
    dying.listen(path);
    await once(dying, 'listening');
    const { code, stderr } = await cli.understudy('--socket', path, 'replication', 'suspend', 'web01');
    dying.close();
    assert.equal(code, 1);
    assert.match(stderr, /error: understudyd went away before it answered\nhint: .* may or may not have been done/);
  });

  void test('1 when the daemon stops while it is followed', async () => {
    const watching = cli.understudy('replication', 'watch');
    await until(() => cli.world.openStreams === 1, {
      timeoutMs: 10_000,
      everyMs: 5,
      onTimeout: () => new Error('not open'),
    });
    await cli.server.close();
    const { code, stderr } = await watching;
    assert.equal(code, 1);
    assert.match(stderr, /error: understudyd ended the stream\nhint: .*goes on by itself/);
  });

  void test('0 for help and version', async () => {
    assert.match(await cli.said('--help'), /^Usage: understudy/);
    assert.match(await cli.said('--version'), /^\d+\.\d+\.\d+\n$/);
  });
});
