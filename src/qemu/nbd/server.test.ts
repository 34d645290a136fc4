import assert from 'node:assert/strict';
import { once } from 'node:events';
import { mkdtemp, rename, rm, stat } from 'node:fs/promises';
import { connect, createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { until } from '../../lib/clock.ts';
import type { Failure } from '../../model/failure.ts';
import { NbdClient } from './client.ts';
import { NbdServer, type NbdSource } from './server.ts';
import { encodeOption, encodeRequest, encodeString, encodeU16, encodeU32, OPTION } from './wire.ts';

const SIZE = 4 * 1024 * 1024;

function bytesAt(offset: number, length: number): Buffer {
  return Buffer.from(Uint8Array.from({ length }, (_, i) => (offset + i) % 251));
}

const plain: NbdSource = {
  size: SIZE,
  read: (offset, length) => Promise.resolve({ parts: [bytesAt(offset, length)] }),
};

interface Place {
  readonly server: NbdServer;
  readonly socketPath: string;
  readonly errors: Failure[];
}

async function serve(t: TestContext, source: NbdSource): Promise<Place> {
  const directory = await mkdtemp(join(tmpdir(), 'understudy-'));
  const errors: Failure[] = [];
  const socketPath = join(directory, 's');
  const server = await NbdServer.listen({ socketPath, onError: (error) => errors.push(error) });
  t.after(async () => {
    await server.close();
    await rm(directory, { recursive: true });
  });
  server.addExport('e', source);
  return { server, socketPath, errors };
}

async function clientOf(t: TestContext, place: Place, metaContexts: string[] = []): Promise<NbdClient> {
  const client = await NbdClient.connect({ socketPath: place.socketPath, exportName: 'e', metaContexts });
  t.after(() => client.destroy());
  return client;
}

/** A client that has agreed on the export and speaks bytes. */
async function rawClient(t: TestContext, place: Place): Promise<Socket> {
  const socket = connect({ path: place.socketPath });
  t.after(() => socket.destroy());
  socket.on('error', () => undefined);
  socket.write(encodeU32(3));
  socket.write(encodeOption(OPTION.structuredReply));
  socket.write(encodeOption(OPTION.go, Buffer.concat([encodeString('e'), encodeU16(0)])));
  await until(() => place.server.connections('e') > 0, {
    timeoutMs: 5000,
    everyMs: 5,
    onTimeout: () => new Error('no'),
  });
  return socket;
}

test('many reads in flight each get their own bytes, whatever the order of the answers', async (t) => {
  const place = await serve(t, {
    size: SIZE,
    async read(offset, length) {
      for (let turns = offset % 7; turns > 0; turns--) await new Promise((resolve) => setImmediate(resolve));
      return { parts: [bytesAt(offset, length)] };
    },
  });
  const client = await clientOf(t, place);
  assert.equal(client.size, SIZE);
  assert.equal(client.readOnly, true);
  await Promise.all(
    Array.from({ length: 500 }, async (_, i) => {
      const [offset, length] = [i * 7919, 1 + ((i * 613) % 20_000)];
      assert.ok((await client.read(offset, length)).equals(bytesAt(offset, length)), `read ${i}`);
    }),
  );
  await client.flush();
  assert.deepEqual(place.errors, []);
});

test('a client that takes no answers is read for no further than its allowance', async (t) => {
  let asked = 0;
  const place = await serve(t, {
    ...plain,
    read: async (_, length) => {
      asked += length;
      return await Promise.resolve({ parts: [Buffer.alloc(length, 1)] });
    },
  });
  const socket = await rawClient(t, place);
  socket.pause();
  const MiB = 1024 * 1024;
  for (let i = 0; i < 200; i++) socket.write(encodeRequest(0, 0, i, 0, MiB));
  await until(() => asked >= 8 * MiB, { timeoutMs: 5000, everyMs: 5, onTimeout: () => new Error('nothing was read') });
  // Another client is served all the while, so the first one's further requests had every chance to be.
  const other = await clientOf(t, place);
  for (let i = 0; i < 50; i++) await other.read(0, 512);
  assert.ok(asked < 12 * MiB, `${asked} bytes were read`); // 8 MiB of allowance, and what the kernel's buffers took
});

test('an error of the source is told to the client, which goes on', async (t) => {
  const place = await serve(t, {
    size: SIZE,
    read: (offset, length) => (offset < 512 ? Promise.reject(new Error('torn')) : plain.read(offset, length)),
  });
  const client = await clientOf(t, place);
  await assert.rejects(client.read(0, 100), { code: 'io', message: /EIO, Error: torn/ });
  assert.ok((await client.read(512, 100)).equals(bytesAt(512, 100)));
  assert.equal(place.errors.length, 1);
});

test('the pieces of a source are given back once each when they are sent, also when they are too few', async (t) => {
  let lent = 0;
  const place = await serve(t, {
    size: SIZE,
    async read(offset, length) {
      lent++;
      const bytes = bytesAt(offset, offset === 7 ? length - 1 : length);
      const parts = [bytes.subarray(0, 10), bytes.subarray(10, 10), bytes.subarray(10)];
      return await Promise.resolve({ parts, release: () => void (bytes.fill(0), lent--) });
    },
  });
  const client = await clientOf(t, place);
  const reads = Array.from({ length: 20 }, async (_, i) => {
    assert.ok((await client.read(100 + i, 100_000)).equals(bytesAt(100 + i, 100_000)));
  });
  await Promise.all(reads);
  await assert.rejects(client.read(7, 100), { code: 'io', message: /99 of 100 bytes/ });
  assert.equal(lent, 0);
  assert.equal(place.errors.length, 1);
});

test('extents come as the source says; one that leaves a gap is an error', async (t) => {
  const zeroFrom = SIZE / 2;
  const place = await serve(t, {
    ...plain,
    extents: (offset, length) =>
      Promise.resolve(
        offset < zeroFrom
          ? [
              { offset: 0, length: 100, hole: false, zero: false },
              { offset: 100, length: zeroFrom - 100, hole: false, zero: false },
              { offset: zeroFrom, length: zeroFrom, hole: true, zero: true },
            ]
          : [{ offset: offset + 1, length: length - 1, hole: true, zero: true }],
      ),
  });
  const client = await clientOf(t, place, ['base:allocation']);
  assert.deepEqual(await client.extents('base:allocation', 50, SIZE - 60), [
    { offset: 50, length: zeroFrom - 50, flags: 0 },
    { offset: zeroFrom, length: zeroFrom - 10, flags: 3 },
  ]);
  await assert.rejects(client.extents('base:allocation', zeroFrom, 10), { code: 'io', message: /gap/ });
});

test('writes are refused, reads outside too, and the connection goes on', async (t) => {
  const place = await serve(t, plain);
  const client = await clientOf(t, place);
  await assert.rejects(client.write(0, Buffer.alloc(100_000)), {
    code: 'io',
    message: /EPERM, the export is read-only/,
  });
  const socket = await rawClient(t, place);
  socket.write(encodeRequest(0, 0, 1, SIZE - 1, 2));
  socket.write(encodeRequest(0, 0, 2, 2 ** 52, 512));
  socket.write(encodeRequest(99, 0, 3, 0, 0));
  let said = Buffer.alloc(0);
  socket.on('data', (bytes: Buffer) => (said = Buffer.concat([said, bytes])));
  await until(() => said.includes('unknown command 99'), { timeoutMs: 5000, onTimeout: () => new Error('no answer') });
  assert.equal(said.toString('latin1').split(`the export has ${SIZE} bytes`).length - 1, 2);
  assert.ok((await client.read(0, 10)).equals(bytesAt(0, 10)));
});

for (const [what, bytes] of [
  ['noise', Buffer.alloc(5000, 0xaa)],
  ['unknown flags', encodeU32(0x80000003)],
  [
    'an option of 4 GiB',
    Buffer.concat([encodeU32(3), encodeOption(OPTION.go).subarray(0, 12), encodeU32(2 ** 32 - 1)]),
  ],
  [
    'options without end',
    Buffer.concat([encodeU32(3), ...Array.from({ length: 100 }, () => encodeOption(OPTION.list))]),
  ],
  [
    'an unknown export by the old option',
    Buffer.concat([encodeU32(3), encodeOption(OPTION.exportName, Buffer.from('no'))]),
  ],
] as const) {
  test(`a client that sends ${what} is dropped, others go on`, async (t) => {
    const place = await serve(t, plain);
    const socket = connect({ path: place.socketPath });
    socket.on('error', () => undefined);
    socket.resume();
    socket.write(bytes);
    await once(socket, 'close');
    assert.equal(place.errors.length, 1);
    const client = await clientOf(t, place);
    assert.ok((await client.read(5, 10)).equals(bytesAt(5, 10)));
  });
}

test('lengths inside an option that reach out of it are answered as invalid', async (t) => {
  const place = await serve(t, plain);
  const socket = connect({ path: place.socketPath });
  t.after(() => socket.destroy());
  socket.write(encodeU32(3));
  socket.write(encodeOption(OPTION.go, encodeU32(50)));
  socket.write(encodeOption(OPTION.abort));
  let said = Buffer.alloc(0);
  socket.on('data', (bytes: Buffer) => (said = Buffer.concat([said, bytes])));
  await once(socket, 'close');
  assert.ok(said.includes('the option ends too early'));
});

test('noise instead of a request ends that connection', async (t) => {
  const place = await serve(t, plain);
  const socket = await rawClient(t, place);
  socket.resume();
  socket.write(Buffer.alloc(28, 0x11));
  await once(socket, 'close');
  assert.equal(place.errors.length, 1);
});

test('removing an export ends its connections once nothing reads the source any more', async (t) => {
  const gate = Promise.withResolvers<void>();
  let reading = 0;
  const place = await serve(t, {
    size: SIZE,
    async read(_, length) {
      reading++;
      await gate.promise;
      reading--;
      return { parts: [Buffer.alloc(length)] };
    },
  });
  place.server.addExport('other', plain);
  const other = await NbdClient.connect({ socketPath: place.socketPath, exportName: 'other' });
  const client = await clientOf(t, place);
  const read = client.read(0, 512);
  const failed = assert.rejects(read, { code: 'interrupted' });
  await until(() => reading === 1, { timeoutMs: 5000, everyMs: 5, onTimeout: () => new Error('not read') });
  const removed = place.server.removeExport('e');
  await failed;
  let isRemoved = false;
  void removed.then(() => (isRemoved = true));
  for (let i = 0; i < 20; i++) assert.ok((await other.read(i, 10)).equals(bytesAt(i, 10)));
  assert.deepEqual({ reading, isRemoved }, { reading: 1, isRemoved: false });
  gate.resolve();
  await removed;
  assert.equal(reading, 0);
  await other.close();
  await assert.rejects(clientOf(t, place), { code: 'not-found' });
});

test('a socket that a crash left is replaced, one that is served is not', async (t) => {
  const place = await serve(t, plain);
  await assert.rejects(NbdServer.listen({ socketPath: place.socketPath }), { code: 'already-exists' });
  const path = `${place.socketPath}2`;
  // A socket file without a listener, as a killed process leaves it: closed behind the back of its path.
  const dead = createServer();
  await new Promise<void>((resolve) => dead.listen(`${path}.old`, resolve));
  await rename(`${path}.old`, path);
  await new Promise((resolve) => dead.close(resolve));
  assert.ok((await stat(path)).isSocket());
  const server = await NbdServer.listen({ socketPath: path, mode: 0o660 });
  assert.equal((await stat(path)).mode & 0o777, 0o660);
  await server.close();
  await assert.rejects(stat(path), { code: 'ENOENT' });
});
