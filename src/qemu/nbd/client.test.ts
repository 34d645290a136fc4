/** What no honest server does: each answer here is made by hand, since no real one would send it. */
import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test, type TestContext } from 'node:test';
import { NbdClient } from './client.ts';
import { Inbound } from './inbound.ts';
import { Reception } from './reception.ts';
import { CHUNK, CHUNK_DONE, encodeU32, MAGIC_SIMPLE_REPLY, MAGIC_STRUCTURED_REPLY, REQUEST_BYTES } from './wire.ts';

const SIZE = 65_536;

/** A client of a server that agrees as it should and then answers each request with what `answer` makes. */
async function clientOf(t: TestContext, answer: (handle: Buffer, socket: Socket) => void): Promise<NbdClient> {
  const directory = await mkdtemp(join(tmpdir(), 'understudy-'));
  t.after(() => rm(directory, { recursive: true }));
  const socketPath = join(directory, 's');
  const source = {
    size: SIZE,
    read: (_: number, length: number) => Promise.resolve({ parts: [Buffer.alloc(length, 7)] }),
  };
  const server = createServer((socket) => {
    socket.on('error', () => undefined);
    const inbound = new Inbound(socket);
    void (async () => {
      await new Reception(inbound, socket, new Map([['e', source]])).run();
      for (let head = await inbound.take(REQUEST_BYTES); head !== undefined; head = await inbound.take(REQUEST_BYTES)) {
        answer(head.subarray(8, 16), socket);
      }
    })();
  });
  await new Promise<void>((resolve) => server.listen(socketPath, resolve));
  t.after(() => server.close());
  const client = await NbdClient.connect({ socketPath, exportName: 'e', metaContexts: ['base:allocation'] });
  t.after(() => client.destroy());
  return client;
}

function chunk(handle: Buffer, type: number, body: Buffer, flags: number = CHUNK_DONE): Buffer {
  const head = Buffer.alloc(20);
  head.writeUInt32BE(MAGIC_STRUCTURED_REPLY, 0);
  head.writeUInt16BE(flags, 4);
  head.writeUInt16BE(type, 6);
  handle.copy(head, 8);
  head.writeUInt32BE(body.length, 16);
  return Buffer.concat([head, body]);
}

const data = (handle: Buffer, offset: number, length: number, flags?: number): Buffer =>
  chunk(handle, CHUNK.offsetData, Buffer.concat([encodeU32(0, offset), Buffer.alloc(length, 9)]), flags);
const hole = (handle: Buffer, offset: number, length: number, flags?: number): Buffer =>
  chunk(handle, CHUNK.offsetHole, encodeU32(0, offset, length), flags);

test('chunks in any order and size make a read', async (t) => {
  const client = await clientOf(t, (handle, socket) => {
    socket.write(hole(handle, 4096 + 100, 50, 0));
    socket.write(data(handle, 4096 + 150, 362, 0));
    socket.write(data(handle, 4096, 100, 0));
    socket.write(chunk(handle, CHUNK.none, Buffer.alloc(0)));
  });
  const expected = Buffer.alloc(512, 9).fill(0, 100, 150);
  assert.ok((await client.read(4096, 512)).equals(expected));
});

for (const [what, bytes, message] of [
  ['bytes missing', (h: Buffer) => [data(h, 0, 500)], /bytes missing/],
  ['bytes missing in the middle', (h: Buffer) => [data(h, 0, 100, 0), data(h, 101, 411)], /bytes missing/],
  ['bytes sent twice', (h: Buffer) => [data(h, 0, 512, 0), data(h, 0, 512)], /sent twice/],
  ['no bytes at all', (h: Buffer) => [chunk(h, CHUNK.none, Buffer.alloc(0))], /bytes missing/],
  ['bytes behind the end', (h: Buffer) => [data(h, 256, 512)], /weren't asked for/],
  ['bytes before the beginning', (h: Buffer) => [data(h, 2 ** 32 - 512, 512)], /weren't asked for/],
  ['a hole behind the end', (h: Buffer) => [hole(h, 0, 513)], /weren't asked for/],
  [
    'a chunk of 4 GiB',
    (h: Buffer) => [Buffer.concat([data(h, 0, 0).subarray(0, 16), encodeU32(2 ** 32 - 1)])],
    /4294967295/,
  ],
  ['another magic', () => [Buffer.alloc(64, 0x55)], /magic 0x55555555/],
  ['an unknown handle', () => [data(Buffer.alloc(8, 3), 0, 512)], /never made/],
  ['a simple reply to a read', (h: Buffer) => [Buffer.concat([encodeU32(MAGIC_SIMPLE_REPLY, 0), h])], /simple reply/],
  ['an unknown chunk', (h: Buffer) => [chunk(h, 77, Buffer.alloc(3))], /type 77/],
] as const) {
  test(`${what}: the read fails, the connection ends, nothing hangs`, async (t) => {
    const client = await clientOf(t, (handle, socket) => {
      for (const part of bytes(handle)) socket.write(part);
    });
    await assert.rejects(client.read(0, 512), { code: 'disk-engine', message });
    await client.closed;
  });
}

test('an error in a chunk is told with the text of the server, at the end of the reply', async (t) => {
  const text = Buffer.from('bad sector');
  const body = Buffer.concat([encodeU32(5), Buffer.from([0, text.length]), text]);
  const client = await clientOf(t, (handle, socket) => {
    socket.write(chunk(handle, CHUNK.error, body, 0));
    socket.write(data(handle, 0, 512));
  });
  await assert.rejects(client.read(0, 512), {
    code: 'io',
    message: /NBD export "e" at .*: read of 512 bytes at 0: EIO, bad sector/,
  });
});

test('extents that do not advance are an error', async (t) => {
  const client = await clientOf(t, (handle, socket) => {
    socket.write(chunk(handle, CHUNK.blockStatus, encodeU32(Reception.ALLOCATION_ID, 0, 0)));
  });
  await assert.rejects(client.extents('base:allocation', 0, 512), { code: 'disk-engine', message: /empty extent/ });
});

test('a server that says nothing is a timeout', async (t) => {
  const directory = await mkdtemp(join(tmpdir(), 'understudy-'));
  t.after(() => rm(directory, { recursive: true }));
  const accepted: Socket[] = [];
  const server = createServer((socket) => accepted.push(socket));
  await new Promise<void>((resolve) => server.listen(join(directory, 's'), resolve));
  t.after(() => {
    server.close();
    for (const socket of accepted) socket.destroy();
  });
  const connecting = NbdClient.connect({ socketPath: join(directory, 's'), exportName: 'e', timeoutMs: 100 });
  await assert.rejects(connecting, { code: 'timeout' });
});
