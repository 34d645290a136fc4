import assert from 'node:assert/strict';
import { once } from 'node:events';
import { connect, createServer, type AddressInfo } from 'node:net';
import { test } from 'node:test';
import { Link } from './link.ts';

/** Sends so many bytes through a link to a server that swallows them and then answers; gives ms. */
async function timeThrough(
  bytes: number,
  options: { delayMs: number; bytesPerSecond: number | null; inFlightBytes: number },
): Promise<number> {
  const server = createServer({ allowHalfOpen: true }, (socket) => {
    socket.resume();
    socket.on('end', () => socket.end('!'));
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const link = await Link.open((server.address() as AddressInfo).port, options);
  try {
    const socket = connect({ port: link.port, host: '127.0.0.1', allowHalfOpen: true });
    await once(socket, 'connect');
    const started = performance.now();
    socket.end(Buffer.alloc(bytes));
    await once(socket, 'data', { signal: AbortSignal.timeout(20_000) });
    const took = performance.now() - started;
    socket.destroy();
    const { bytesThere } = await link.set(options);
    assert.equal(bytesThere, bytes);
    return took;
  } finally {
    await link.close();
    server.close();
  }
}

const WIDE = 64 * 2 ** 20;

test('bytes take their time both ways', async () => {
  const took = await timeThrough(10, { delayMs: 60, bytesPerSecond: null, inFlightBytes: WIDE });
  assert.ok(took >= 118, `${took} ms`);
});

test('a link carries what its rate allows, and not more', async () => {
  const took = await timeThrough(400_000, { delayMs: 0, bytesPerSecond: 1_000_000, inFlightBytes: WIDE });
  assert.ok(took >= 380 && took < 4000, `${took} ms`);
});

test('a connection carries its window once a round trip', async () => {
  const window = 128 * 1024;
  const took = await timeThrough(4 * window, { delayMs: 50, bytesPerSecond: null, inFlightBytes: window });
  // 4 windows at least: 3 round trips before the last is sent, and one for the answer; reads may exceed a window by a piece
  assert.ok(took >= 300, `${took} ms`);
});
