import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { until } from '../lib/clock.ts';
import { addBitmap, checkImage, createImage, imageInfo } from './image.ts';
import { NbdClient } from './nbd/client.ts';
import { endPredecessor, recordProcess } from './predecessor.ts';
import { StorageDaemon } from './storage-daemon.ts';
import { MiB, pattern, scratchClient, scratchDaemon, scratchDirectory, scratchDisk } from './testing.ts';

async function isGone(pid: number): Promise<boolean> {
  const state = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => ' (x) Z');
  return state.slice(state.lastIndexOf(')') + 2).startsWith('Z');
}

const gone = (pid: number): Promise<void> =>
  until(() => isGone(pid), { timeoutMs: 10_000, everyMs: 10, onTimeout: () => new Error(`${pid} is still there`) });

/** A program that starts a storage daemon in `directory`, says its pid, and lives until it is killed. */
function parentIn(directory: string): ReturnType<typeof spawn> {
  const module = new URL('./storage-daemon.ts', import.meta.url).href;
  const program = `
    import { StorageDaemon } from ${JSON.stringify(module)};
    const daemon = await StorageDaemon.start({ directory: ${JSON.stringify(directory)}, name: 'd' });
    process.stdout.write(String(daemon.pid));
    setInterval(() => undefined, 1000);`;
  return spawn(process.execPath, ['--input-type=module', '-e', program], { stdio: ['ignore', 'pipe', 'inherit'] });
}

test('opens, exports, closes and stops; what was written is in the image', async (t) => {
  const place = await scratchDaemon(t);
  const { daemon } = place;
  const path = await scratchDisk(place, 'disk', 4 * MiB);
  const client = await scratchClient(t, daemon, 'disk');
  await client.write(MiB, pattern(MiB, 1));
  await client.close();
  await daemon.closeExport('disk');
  await daemon.closeExport('disk'); // twice is no error
  await daemon.closeNode('disk');
  await addBitmap(path, 'b'); // needs the lock: the node is really closed
  await daemon.openImage({ node: 'again', path, format: 'qcow2', readOnly: true, backing: null });
  await daemon.exportNode({ node: 'again', exportName: 'again', writable: false, bitmaps: ['b'] });
  const reader = await scratchClient(t, daemon, 'again', ['qemu:dirty-bitmap:b']);
  assert.ok((await reader.read(MiB, MiB)).equals(pattern(MiB, 1)));
  assert.deepEqual(await reader.extents('qemu:dirty-bitmap:b', 0, 4 * MiB), [{ offset: 0, length: 4 * MiB, flags: 0 }]);

  const ended = new Promise((resolve) => daemon.onExit(resolve));
  const exit = await daemon.stop();
  assert.deepEqual([exit.code, exit.signal], [0, null]);
  assert.equal(await ended, exit);
  await assert.rejects(stat(join(place.directory, 'test.pid')), { code: 'ENOENT' });
  await daemon.stop(); // twice is no error
  assert.deepEqual(await checkImage(path), { corruptions: 0, leaks: 0 });
});

test('a persistent bitmap records while the image is open, and lies in it after the stop', async (t) => {
  const directory = await scratchDirectory(t);
  const path = join(directory, 'd.qcow2');
  await createImage(path, MiB, { format: 'qcow2' });
  await addBitmap(path, 'b');
  const first = await StorageDaemon.start({ directory, name: 'd' });
  t.after(() => first.stop());
  await first.openImage({ node: 'n', path, format: 'qcow2', readOnly: false, backing: null, lazyRefcounts: true });
  await first.exportNode({ node: 'n', exportName: 'n', writable: true });
  await (await scratchClient(t, first, 'n')).write(70_000, pattern(10, 1));
  await first.stop();
  assert.deepEqual((await imageInfo(path, { format: 'qcow2' })).bitmaps, [
    { name: 'b', granularity: 65_536, flags: ['auto'] },
  ]);
});

test('a relay bridges the restart of the server behind it', async (t) => {
  const directory = await scratchDirectory(t);
  const path = join(directory, 'd.raw');
  await writeFile(path, pattern(MiB, 3));
  const serve = async (): Promise<StorageDaemon> => {
    const daemon = await StorageDaemon.start({ directory, name: 'view' });
    await daemon.openImage({ node: 'n', path, format: 'raw', readOnly: true });
    await daemon.exportNode({ node: 'n', exportName: 'p 1', writable: false });
    return daemon;
  };
  const view = await serve();
  t.after(() => view.kill());
  const relay = await StorageDaemon.start({ directory, name: 'relay' });
  t.after(() => relay.stop());
  await relay.openNbd({
    node: 'v',
    socketPath: view.nbdSocket,
    exportName: 'p 1',
    readOnly: true,
    reconnectDelaySeconds: 60,
  });
  await relay.exportNode({ node: 'v', exportName: 'v', writable: false });
  const client = await scratchClient(t, relay, 'v');
  assert.ok((await client.read(0, MiB)).equals(pattern(MiB, 3)));
  await view.kill();
  const waiting = client.read(0, MiB);
  const again = await serve();
  t.after(() => again.stop());
  assert.ok((await waiting).equals(pattern(MiB, 3)));
});

test('what it complains of is in its last words', async (t) => {
  const directory = await scratchDirectory(t);
  await writeFile(join(directory, 'x'), '');
  const began = performance.now();
  await assert.rejects(StorageDaemon.start({ directory, name: `${'n'.repeat(120)}` }), {
    code: 'disk-engine',
    message: /ended at its start \(exit code 1\).*UNIX socket path/s,
  });
  assert.ok(performance.now() - began < 10_000, 'its end is seen, not waited out');
  const daemon = await StorageDaemon.start({ directory, name: 'd' });
  t.after(() => daemon.stop());
  await assert.rejects(daemon.openImage({ node: 'n', path: join(directory, 'x'), format: 'qcow2', readOnly: false }), {
    code: 'disk-engine',
    message: /not in qcow2 format/,
  });
  const exit = await daemon.kill();
  assert.deepEqual([exit.code, exit.signal], [null, 'SIGKILL']);
});

test('ends with its parent, even when that is killed', async (t) => {
  const directory = await scratchDirectory(t);
  const parent = parentIn(directory);
  t.after(() => parent.kill('SIGKILL'));
  const [said] = (await once(parent.stdout!, 'data')) as [Buffer];
  const pid = Number(said.toString());
  assert.equal(await isGone(pid), false);
  parent.kill('SIGKILL');
  await gone(pid);
});

test('ends a predecessor that lived on, by its pid file', async (t) => {
  const directory = await scratchDirectory(t);
  const path = join(directory, 'd.qcow2');
  await createImage(path, MiB, { format: 'qcow2' });
  const left = await StorageDaemon.start({ directory, name: 'd' });
  t.after(() => left.kill());
  await left.openImage({ node: 'n', path, format: 'qcow2', readOnly: false, backing: null });
  const successor = await StorageDaemon.start({ directory, name: 'd' });
  t.after(() => successor.stop());
  await gone(left.pid);
  assert.equal((await left.exited).code, 0); // asked, not killed: caches were written
  await successor.openImage({ node: 'n', path, format: 'qcow2', readOnly: false, backing: null });
  await successor.exportNode({ node: 'n', exportName: 'n', writable: true });
  const client = await NbdClient.connect({ socketPath: successor.nbdSocket, exportName: 'n' });
  await client.close();
});

test('a pid file never ends a process that is another one by now', async (t) => {
  const directory = await scratchDirectory(t);
  const pidFile = join(directory, 'p');
  const stranger = spawn('sleep', ['1000'], { stdio: 'ignore' });
  t.after(() => stranger.kill('SIGKILL'));
  await once(stranger, 'spawn');
  const ends: number[] = [];
  stranger.on('exit', () => ends.push(1));
  await recordProcess(pidFile, stranger.pid!, 'not among its arguments');
  assert.equal(await endPredecessor(pidFile), undefined);
  await recordProcess(pidFile, stranger.pid!, 'sleep');
  const recorded = JSON.parse(await readFile(pidFile, 'utf8')) as { startTime: string };
  await writeFile(pidFile, JSON.stringify({ ...recorded, startTime: '1' }));
  assert.equal(await endPredecessor(pidFile), undefined);
  await assert.rejects(stat(pidFile), { code: 'ENOENT' });
  assert.deepEqual(ends, []);
  await recordProcess(pidFile, stranger.pid!, 'sleep');
  assert.equal(await endPredecessor(pidFile), stranger.pid);
  await gone(stranger.pid!);
  await writeFile(pidFile, 'half a p');
  await assert.rejects(endPredecessor(pidFile), { code: 'disk-engine', message: /not readable/ });
});
