import assert from 'node:assert/strict';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'node:test';
import { run } from '../../lib/process.ts';
import { createImage } from '../image.ts';
import { KiB, MiB, pattern, scratchClient, scratchDaemon, scratchDirectory } from '../testing.ts';
import { NbdServer, type NbdSource } from './server.ts';

const SIZE = 5 * MiB + 512;
const ZERO = { from: 2 * MiB, to: 4 * MiB };

/** Data, then two MiB of zeros that take no space, then data. */
function content(): Buffer {
  return Buffer.concat([pattern(SIZE, 1)]).fill(0, ZERO.from, ZERO.to);
}

/** As a source may have them: in several places. */
function inPieces(bytes: Buffer): Buffer[] {
  const third = Math.floor(bytes.length / 3);
  return [bytes.subarray(0, third), bytes.subarray(third, 2 * third), bytes.subarray(2 * third)];
}

function sourceOf(bytes: Buffer): NbdSource {
  return {
    size: bytes.length,
    read: (offset, length) => Promise.resolve({ parts: inPieces(bytes.subarray(offset, offset + length)) }),
    extents: (offset, length) => {
      const runs = [
        { from: 0, to: ZERO.from, empty: false },
        { ...ZERO, empty: true },
        { from: ZERO.to, to: bytes.length, empty: false },
      ].map((run) => ({ ...run, from: Math.max(run.from, offset), to: Math.min(run.to, offset + length) }));
      return Promise.resolve(
        runs
          .filter(({ from, to }) => to > from)
          .map(({ from, to, empty }) => ({ offset: from, length: to - from, hole: empty, zero: empty })),
      );
    },
  };
}

async function ok(program: string, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await run(program, args, { timeoutMs: 20_000 });
  assert.equal(code, 0, `${program} ${args.join(' ')}: ${stdout}${stderr}`);
  return stdout;
}

test('qemu-img and qemu-io read an export of ours', async (t) => {
  const directory = await scratchDirectory(t);
  const socketPath = join(directory, 's');
  const bytes = content();
  const errors: Error[] = [];
  const server = await NbdServer.listen({ socketPath, onError: (error) => errors.push(error) });
  t.after(() => server.close());
  server.addExport('vm/point 7', sourceOf(bytes));
  const uri = `nbd+unix:///vm%2Fpoint%207?socket=${socketPath}`;

  const info = JSON.parse(await ok('qemu-img', 'info', '-f', 'raw', '--output=json', uri)) as Record<string, unknown>;
  assert.equal(info['virtual-size'], SIZE);
  const copy = join(directory, 'copy.raw');
  await ok('qemu-img', 'convert', '-m', '16', '-W', '-f', 'raw', '-O', 'raw', uri, copy);
  assert.ok((await readFile(copy)).equals(bytes));
  await ok('qemu-img', 'compare', '-f', 'raw', '-F', 'raw', uri, copy);
  const map = JSON.parse(await ok('qemu-img', 'map', '-f', 'raw', '--output=json', uri)) as Record<string, unknown>[];
  assert.deepEqual(
    map.map(({ start, length, zero, data }) => ({ start, length, zero, data })),
    [
      { start: 0, length: ZERO.from, zero: false, data: true },
      { start: ZERO.from, length: ZERO.to - ZERO.from, zero: true, data: false },
      { start: ZERO.to, length: SIZE - ZERO.to, zero: false, data: true },
    ],
  );
  // One byte of the copy changed: the comparison through us notices.
  const handle = await open(copy, 'r+');
  await handle.write(Buffer.from([0]), 0, 1, 4 * MiB + 77);
  await handle.close();
  assert.equal((await run('qemu-img', ['compare', '-f', 'raw', '-F', 'raw', uri, copy])).code, 1);
  await ok(
    'qemu-io',
    '-r',
    '-f',
    'raw',
    '-c',
    `read -P 0 ${ZERO.from} 1M`,
    '-c',
    'read 4097 3',
    '-c',
    'aio_flush',
    uri,
  );
  assert.deepEqual(errors, []);
});

test('an overlay on an export of ours, in a real storage daemon, is read and written', async (t) => {
  const { daemon, directory } = await scratchDaemon(t);
  const bytes = content();
  const server = await NbdServer.listen({ socketPath: join(directory, 's') });
  t.after(() => server.close());
  server.addExport('p', sourceOf(bytes));
  const overlay = join(directory, 'over.qcow2');
  await createImage(overlay, SIZE, { format: 'qcow2' });
  await daemon.openNbd({
    node: 'view',
    socketPath: server.socketPath,
    exportName: 'p',
    readOnly: true,
    reconnectDelaySeconds: 10,
  });
  await daemon.openImage({ node: 'over', path: overlay, format: 'qcow2', readOnly: false, backing: 'view' });
  await daemon.exportNode({ node: 'over', exportName: 'over', writable: true });
  const client = await scratchClient(t, daemon, 'over');
  const lanes = Array.from({ length: 64 }, async (_, i) => {
    const offset = i * 80 * KiB;
    assert.ok((await client.read(offset, 80 * KiB)).equals(bytes.subarray(offset, offset + 80 * KiB)));
  });
  await Promise.all(lanes);
  await client.write(MiB + 10, pattern(100, 9));
  pattern(100, 9).copy(bytes.subarray(MiB + 10));
  assert.ok((await client.read(0, SIZE)).equals(bytes));
});
