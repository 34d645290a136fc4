import assert from 'node:assert/strict';
import { rm } from 'node:fs/promises';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { test } from 'node:test';
import { run } from '../lib/process.ts';
import { Failure } from '../model/failure.ts';
import { Qmp, QmpError } from './qmp.ts';
import { MiB, scratchDaemon, scratchDirectory, scratchDisk } from './testing.ts';

test('commands under way at once get their own answers, errors tell class and text', async (t) => {
  const { daemon } = await scratchDaemon(t);
  const [version, commands, error] = await Promise.all([
    daemon.qmp.execute<{ qemu: { major: number } }>('query-version'),
    daemon.qmp.execute<{ name: string }[]>('query-commands'),
    daemon.qmp.execute('blockdev-del', { 'node-name': 'none' }).then(
      () => assert.fail('it went well'),
      (thrown: Failure) => thrown,
    ),
  ]);
  assert.ok(version.qemu.major >= 7);
  assert.ok(commands.some(({ name }) => name === 'block-export-add'));
  assert.equal(error.code, 'disk-engine');
  assert.match(error.message, /qemu-storage-daemon test: blockdev-del: Failed to find node/);
  assert.ok(error.cause instanceof QmpError && error.cause.errorClass === 'GenericError');
});

test('events reach listeners and waiters; the end of the daemon ends every wait', async (t) => {
  const place = await scratchDaemon(t);
  const { qmp } = place.daemon;
  await scratchDisk(place, 'disk', MiB);
  const seen: unknown[] = [];
  const off = qmp.on('BLOCK_EXPORT_DELETED', ({ data }) => seen.push(data['id']));
  const deleted = qmp.waitFor('BLOCK_EXPORT_DELETED', ({ data }) => data['id'] === 'export-1', 5000);
  await place.daemon.closeExport('disk');
  await deleted;
  assert.deepEqual(seen, ['export-1']);
  off();
  await assert.rejects(
    qmp.waitFor('BLOCK_EXPORT_DELETED', () => true, 20),
    { code: 'timeout' },
  );
  const wait = assert.rejects(
    qmp.waitFor('BLOCK_EXPORT_DELETED', () => true, 5000),
    { code: 'disk-engine' },
  );
  await place.daemon.kill();
  await wait;
  await qmp.closed;
  await assert.rejects(qmp.execute('query-version'), { code: 'disk-engine' });
});

test('a monitor by its path; none there is unreachable, a silent one a timeout', async (t) => {
  const directory = await scratchDirectory(t);
  const { daemon } = await scratchDaemon(t);
  const path = join(directory, 'qmp');
  await assert.rejects(Qmp.connect(path), { code: 'unreachable' });
  await daemon.qmp.execute('chardev-add', {
    id: 'second',
    backend: { type: 'socket', data: { addr: { type: 'unix', data: { path } }, server: true, wait: false } },
  });
  // Connected, but no monitor is behind this character device: it never greets.
  await assert.rejects(Qmp.connect(path, { timeoutMs: 100 }), { code: 'timeout' });
  await rm(path, { force: true });

  const noise = createServer((socket) => socket.end('220 mail.example ESMTP\n'));
  await new Promise<void>((resolve) => noise.listen(path, resolve));
  t.after(() => noise.close());
  await assert.rejects(Qmp.connect(path), { code: 'disk-engine', message: /isn't QMP: 220 mail/ });
});

test('a path that is a real QMP socket', async (t) => {
  const directory = await scratchDirectory(t);
  const path = join(directory, 'qmp');
  const running = run('qemu-storage-daemon', [
    '--chardev',
    `socket,id=q,path=${path},server=on,wait=off`,
    '--monitor',
    'chardev=q',
  ]);
  let qmp: Qmp | undefined;
  while (qmp === undefined) {
    qmp = await Qmp.connect(path, { timeoutMs: 5000 }).catch((error: Failure) => {
      if (error.code !== 'unreachable') throw error;
      return new Promise<undefined>((resolve) => setTimeout(() => resolve(undefined), 10));
    });
  }
  await qmp.execute('quit');
  assert.equal((await running).code, 0);
});
