import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { until } from '../lib/clock.ts';
import { Failure } from '../model/failure.ts';
import { CliOnMemory } from './cli.fixture.ts';

const cli = new CliOnMemory();

void describe('what is asked for', () => {
  void test('settings of a new relationship', async () => {
    await cli.said(
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
    const { intervalSeconds, history, disks } = cli.world.replications[1]!;
    assert.deepEqual(
      { intervalSeconds, history, disks: disks.length },
      { intervalSeconds: 300, history: 24, disks: 1 },
    );
    await cli.said('replication', 'set', 'db01', '--interval', '30', '--history', '2');
    assert.deepEqual([cli.world.replications[1]!.intervalSeconds, cli.world.replications[1]!.history], [30, 2]);
    await cli.said('replication', 'set', 'db01', '--keep-hourly', '24', '--keep-weekly', '4');
    const thin = [
      { everySeconds: 3600, count: 24 },
      { everySeconds: 604_800, count: 4 },
    ];
    assert.deepEqual(cli.world.replications[1]!.thin, thin);
    await cli.said('replication', 'set', 'db01', '--history', '3');
    assert.deepEqual(cli.world.replications[1]!.thin, thin, 'what is not named stays');
    await cli.said('replication', 'set', 'db01', '--lease', '1m');
    assert.equal(cli.world.replications[1]!.leaseSeconds, 60);
    await cli.said('replication', 'set', 'db01', '--lease', 'off');
    assert.equal(cli.world.replications[1]!.leaseSeconds, 0);
    const limited = await cli.said('replication', 'set', 'db01', '--read-limit', '50MiB/s', '--read-iops', '500');
    assert.match(limited, /read at 50 MiB\/s and 500 reads\/s at most/);
    assert.match(await cli.said('replication', 'show', 'db01'), /read limit: +50 MiB\/s and 500 reads\/s/);
    await cli.said('replication', 'set', 'db01', '--read-limit', 'off');
    assert.deepEqual([cli.world.replications[1]!.readBytesPerSecond, cli.world.replications[1]!.readIops], [0, 500]);
    await cli.said('replication', 'set', 'db01', '--read-iops', 'off');
    assert.doesNotMatch(await cli.said('replication', 'show', 'db01'), /read limit/);
    await cli.said('replication', 'set', 'db01', '--keep-daily', '0');
    assert.deepEqual(cli.world.replications[1]!.thin, []);
  });

  void test('a rescan says what came of each replica', async () => {
    assert.match(await cli.said('replica', 'rescan'), /r1 +web01 +host-b +rebuilt/);
    assert.match(
      await cli.said('replica', 'seed', 'db01', '--peer', 'host-a'),
      /enable db01 --peer THIS-HOST --use-seed/,
    );
    assert.match(await cli.said('replica', 'seed', 'db01', '--withdraw'), /nobody's to begin with/);
    assert.match((await cli.understudy('replica', 'seed', 'db01')).stderr, /either --peer or --withdraw/);
  });

  void test('enabling waits for the initial copy', async () => {
    const enabling = cli.understudy('replication', 'enable', 'db01', '--peer', 'host-b');
    let isOver = false;
    void enabling.then(() => (isOver = true));
    await until(() => cli.world.openStreams === 1, {
      timeoutMs: 10_000,
      everyMs: 5,
      onTimeout: () => new Error('not followed'),
    });
    assert.ok(!isOver);
    cli.world.update('r2', { state: 'Replicating' });
    assert.match((await enabling).stdout, /^db01: Replicating; every 5 min, 24 recovery points, replica on host-b\n$/);
  });

  void test('an initial copy that nobody but a person can go on with fails', async () => {
    const enabling = cli.understudy('replication', 'enable', 'db01', '--peer', 'host-b');
    await until(() => cli.world.openStreams === 1, {
      timeoutMs: 10_000,
      everyMs: 5,
      onTimeout: () => new Error('not followed'),
    });
    cli.world.update('r2', { failure: new Failure('unreachable', 'heals by itself').toJSON() });
    cli.world.update('r2', { failure: new Failure('peer-refused', 'host-b refuses us').toJSON() });
    const { code, stderr } = await enabling;
    assert.equal(code, 1);
    assert.match(stderr, /error: host-b refuses us\nhint: Pair the two hosts/);
  });

  void test('encrypted disks are replicated as plain text only where somebody says so', async () => {
    await cli.said('replication', 'set', 'web01', '--replica-plaintext');
    assert.equal(cli.world.replications[0]!.replicaPlaintext, true);
    assert.match(await cli.said('replication', 'show', 'web01'), /encrypted disks: +replicated as plain text/);
    await cli.said('replication', 'set', 'web01', '--interval', '30');
    assert.equal(cli.world.replications[0]!.replicaPlaintext, true, 'what is not given stays');
    await cli.said('replication', 'set', 'web01', '--no-replica-plaintext');
    assert.equal(cli.world.replications[0]!.replicaPlaintext, false);
    assert.doesNotMatch(await cli.said('replication', 'show', 'web01'), /encrypted disks/);
  });

  void test("the Replica VM's definition: what it does, what differs, what its host lacks", async () => {
    await cli.said('replication', 'set', 'web01', '--definition', 'keep');
    assert.equal(cli.world.replications[0]!.definitionPolicy, 'keep');
    cli.world.update('r1', { lacking: ['network dmz'] });
    const sheet = await cli.said('replication', 'show', 'web01');
    assert.match(sheet, /lacking: +to run on the Replica server: network dmz/);
    assert.match(sheet, /definition: +the Replica VM keeps its own/);
    const drift = await cli.said('replication', 'drift', 'web01');
    assert.match(drift, /memory +1048576 +524288/);
    assert.match(drift, /Lacking on this host: network dmz/);
  });

  void test('a comparison: when it begins, why it waits, given up', async () => {
    await cli.said('replication', 'set', 'web01', '--auto-resync', '18:30-06:00');
    assert.equal(cli.world.replications[0]!.autoResync, '18:30-06:00');
    const { stderr } = await cli.understudy('replication', 'set', 'web01', '--auto-resync', 'tonight');
    assert.match(stderr, /autoResync: always, never, or a window of the day/);
    cli.world.update('r1', {
      state: 'WaitingForStartResynchronize',
      resync: { reason: 'vda has lost its bitmap', begin: 'by-policy', beginsAt: null },
    });
    const sheet = await cli.said('replication', 'show', 'web01');
    assert.match(sheet, /vda has lost its bitmap\n +begin it with `understudy replication resync web01`/);
    assert.match(await cli.said('replication', 'cancel-resync', 'web01'), /^web01: WaitingForStartResynchronize/);
  });

  void test('suspend, resume, export, reverse', async () => {
    assert.match(await cli.said('replication', 'suspend', 'web01'), /^web01: Suspended/);
    assert.match(await cli.said('replication', 'resume', 'web01'), /^web01: Replicating/);
    assert.match(
      await cli.said('point', 'export', 'web01', '40', '--disk', 'vda', '--file', '/tmp/x'),
      /^written: \/tmp\/x$/m,
    );
    assert.match(await cli.said('failover', 'reverse', 'web01'), /^web01 is replicated from this host now$/m);
    assert.match(await cli.said('action', 'list'), /web01 +reverse +done +action-2/);
    assert.match(await cli.said('action', 'watch', 'action-1'), /^point-export of web01 is done$/m);
  });

  void test('an action shows its steps; one that is undone fails with its reason', async () => {
    const good = await cli.understudy('failover', 'complete', 'web01', '--yes');
    assert.equal(good.stderr, 'done    Make ready (1.2 s)\ndone    Do it (1.2 s)\n');
    cli.world.nextFailure = new Failure('no-space', 'No room on /srv');
    const bad = await cli.understudy('failover', 'cancel', 'web01', '--yes');
    assert.equal(bad.code, 1);
    assert.match(bad.stderr, /^failed {2}Do it \(1\.2 s\)\nerror: No room on \/srv\nhint: Make room/m);
    cli.world.nextFailure = new Failure('unreachable', 'host-b does not answer');
    assert.equal((await cli.understudy('peer', 'check', 'host-b')).code, 1);
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
      const { code, stderr } = await cli.understudy(...args);
      assert.equal(code, 2, args.join(' '));
      assert.match(stderr, /hint: Give consent with --yes/);
    }
    assert.deepEqual(await cli.json('action', 'list'), []);
    assert.equal(cli.world.replications.length + cli.world.peers.length, 2);
  });

  void test('--yes is consent', async () => {
    assert.match(await cli.said('failover', 'unplanned', 'web01', '--yes'), /^web01 runs here, as of 2026-/m);
    assert.match(await cli.said('failover', 'planned', 'web01', '--yes'), /^web01 runs on host-b; nothing was lost$/m);
    await cli.said('replication', 'remove', 'web01', '--yes');
    assert.equal(cli.world.replications.length, 0);
  });

  void test('--force is not consent, and it reaches the daemon', async () => {
    assert.equal((await cli.understudy('failover', 'unplanned', 'r1', '--force')).code, 2);
    assert.equal((await cli.understudy('failover', 'unplanned', 'r1', '--yes')).code, 1);
    assert.equal((await cli.understudy('failover', 'unplanned', 'r1', '--yes', '--force')).code, 0);
  });

  void test('on a terminal it asks; only yes is yes', async () => {
    const refusal = await cli.onTerminal(['replication', 'remove', 'web01'], 'n\n');
    assert.match(refusal, /deletes all recovery points and the disks of the replica\.[^]*\[y\/N\]/);
    assert.equal(cli.world.replications.length, 1);
    await cli.onTerminal(['replication', 'remove', 'web01'], 'y\n');
    assert.equal(cli.world.replications.length, 0);
  });
});

void describe('raw disks', () => {
  void test('what becomes of one, and when', async () => {
    assert.match(
      await cli.said('vm', 'track', 'db01', '--disk', 'vda'),
      /^db01, disk vda: \/images\/db01-vda\.raw will be put under tracking when the VM is off: shut the guest down/,
    );
    assert.equal(
      await cli.said('vm', 'untrack', 'db01', '--disk', 'vda'),
      'db01, disk vda: it is /images/db01-vda.raw, without tracking\n',
    );
    assert.equal((await cli.understudy('vm', 'track', 'db01')).code, 2);
  });
});
