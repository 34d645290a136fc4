/** A log on a long way, by the client that daemons use. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { after, afterEach, beforeEach, test } from 'node:test';
import { pino } from 'pino';
import { Lanes } from '../../src/lanes/lanes.ts';
import { Failure } from '../../src/model/failure.ts';
import { isFailure, LOG, Loopback } from '../../src/protocol/https/loopback.fixture.ts';
import { Link } from './link.ts';

const MIB = 1024 * 1024;
const lanes = new Lanes(1);
let loopback: Loopback;
beforeEach(() => (loopback = new Loopback()));
afterEach(() => loopback.close());
after(() => lanes.close());

test('a log on a long way is sent by strands, whole and counted, and a refusal is told', async () => {
  const lines: string[] = [];
  const [a] = await loopback.pair();
  const b = await loopback.host('host-c', { log: pino({}, { write: (line: string) => void lines.push(line) }) });
  a.peers.add(b.asPeer());
  b.peers.add(a.asPeer());
  const link = await Link.open(b.server.port, { delayMs: 8, bytesPerSecond: null, inFlightBytes: MIB });
  try {
    const endpoint = a.to(b, { lanes, peer: b.asPeer({ address: `127.0.0.1:${link.port}` }) });
    const whole = randomBytes(9 * MIB + 7);
    const path = join(await loopback.directory(), 'log');
    await writeFile(path, whole);
    let sum = 0;
    const moreThan = async (have: number) => (have < whole.length ? whole.length : null);
    const body = {
      file: { path, expected: whole.length, moreThan, taken: (count: number) => void (sum += count) },
      [Symbol.asyncIterator]: () => assert.fail('iterated'),
    };
    await endpoint.put('r1', LOG, 0, body);
    assert.ok(Buffer.concat(b.replica.received).equals(whole));
    assert.equal(sum, whole.length);
    b.replica.put = () => Promise.reject(new Failure('no-space', 'full'));
    await assert.rejects(endpoint.put('r1', LOG, 0, body), isFailure('no-space', /full/));
    assert.match(lines.join(''), /offset=0&upload=[0-9a-f]{32}/);
  } finally {
    await link.close();
  }
});
