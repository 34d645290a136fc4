import assert from 'node:assert/strict';
import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import { test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import { readBody } from './body.ts';
import { isFailure } from './loopback.fixture.ts';

const PIECE = 16 * 1024;

/** A request whose bytes never end, and how many have been read of it. */
function endless(): { readonly request: IncomingMessage; readonly read: () => number } {
  let bytes = 0;
  const stream = new Readable({
    highWaterMark: PIECE,
    read() {
      bytes += PIECE;
      setImmediate(() => this.push(Buffer.alloc(PIECE)));
    },
  });
  return { request: stream as IncomingMessage, read: () => bytes };
}

void test('what nobody takes is read up to a bound, beside what was given last', async () => {
  const ahead = 512 * 1024;
  const { request, read } = endless();
  const body = readBody(request, { ahead });
  for (let round = 0; round < 3; round++) {
    const before = read();
    const { value } = await body.next();
    const given = value!.reduce((sum, { length }) => sum + length, 0);
    assert.ok(given >= ahead / 2 && given <= ahead + PIECE, `${given} bytes at once`);
    for (let last = -1; last !== read();) {
      last = read();
      for (let i = 0; i < 10; i++) await turn();
    }
    assert.ok(read() - before <= 2 * ahead + 4 * PIECE, `${read() - before} bytes were read`);
  }
  request.destroy();
  const drain = async (): Promise<void> => {
    for await (const parts of body) assert.ok(parts);
  };
  await assert.rejects(drain(), isFailure('interrupted'));
});
