/** A log, dealt out to strands and twisted back into one. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { setImmediate as turn } from 'node:timers/promises';
import fc from 'fast-check';
import { Failure } from '../../model/failure.ts';
import { encodeChunkHead } from './chunk.ts';
import { isFailure } from './loopback.fixture.ts';
import { Strands } from './strands.ts';
import { Stripes } from './stripes.ts';
import { MOST_STRANDS } from './wire.ts';

const SILENCE_MS = 10_000;

function chunk(offset: number, bytes: Uint8Array): Buffer {
  return Buffer.concat([encodeChunkHead(offset, bytes.length), bytes]);
}

/** A body that brings these parts, one at a time, and then breaks, ends, or says nothing more. */
class Body implements AsyncIterator<readonly Uint8Array[]> {
  readonly #parts: Buffer[];
  readonly #then: unknown;
  asked = 0;
  returned = false;

  constructor(parts: readonly Buffer[], then: 'end' | 'silence' | Error = 'end') {
    this.#parts = [...parts];
    this.#then = then;
  }
  async next(): Promise<IteratorResult<readonly Uint8Array[]>> {
    this.asked++;
    await turn();
    const part = this.#parts.shift();
    if (part !== undefined) return { done: false, value: [part] };
    if (this.#then === 'silence') return await new Promise(() => undefined);
    if (this.#then instanceof Error) throw this.#then;
    return { done: true, value: undefined };
  }
  return(): Promise<IteratorResult<readonly Uint8Array[]>> {
    this.returned = true;
    return Promise.resolve({ done: true, value: undefined });
  }
}

async function read(strands: Strands): Promise<Buffer> {
  const parts: Buffer[] = [];
  for await (const some of strands.bytes) parts.push(...some.map((part) => Buffer.from(part)));
  return Buffer.concat(parts);
}

function of(offset: number, bodies: readonly Body[], silenceMs = SILENCE_MS): Strands {
  const strands = new Strands(offset, silenceMs);
  for (const body of bodies) void strands.join(body);
  return strands;
}

/** Cuts bytes at these places, each from 0 to 1. */
function cut(bytes: Buffer, places: readonly number[]): Buffer[] {
  const at = [0, ...places.map((place) => Math.floor(place * bytes.length)).sort((a, b) => a - b), bytes.length];
  return at.slice(1).map((end, i) => bytes.subarray(at[i], end));
}

const places = fc.array(fc.double({ min: 0, max: 1, noNaN: true }), { maxLength: 12 });
const log = fc.uint8Array({ maxLength: 5000 }).map((bytes) => Buffer.from(bytes));

void describe('a log that comes by strands', () => {
  void test('is the log, however it was striped and cut', async () => {
    const property = fc.asyncProperty(
      log,
      places,
      fc.array(fc.nat({ max: 4 }), { minLength: 16, maxLength: 16 }),
      fc.array(places, { minLength: 5, maxLength: 5 }),
      fc.nat(2 ** 40),
      async (bytes, stripes, whose, cuts, offset) => {
        const sent: Buffer[][] = [[], [], [], [], []];
        let at = offset;
        for (const [i, stripe] of cut(bytes, stripes)
          .filter(({ length }) => length > 0)
          .entries()) {
          sent[whose[i]!]!.push(chunk(at, stripe));
          at += stripe.length;
        }
        sent[whose[15]!]!.push(chunk(at, Buffer.alloc(0)));
        const bodies = sent.map((chunks, i) => new Body(cut(Buffer.concat(chunks), cuts[i]!)));
        assert.ok((await read(of(offset, bodies))).equals(bytes));
        assert.ok(bodies.every(({ returned, asked }) => returned || asked > 0));
      },
    );
    await fc.assert(property, { numRuns: 300 });
  });

  void test('is the log when the sender deals it out, to strands that come and go', async () => {
    const property = fc.asyncProperty(
      log,
      places,
      fc.array(fc.nat({ max: 8 }), { maxLength: 6 }),
      async (bytes, cuts, lives) => {
        const source = async function* (): AsyncGenerator<Buffer> {
          for (const part of cut(bytes, cuts)) yield await turn(part);
        };
        const stripes = new Stripes(source(), 77);
        const strands = new Strands(77, SILENCE_MS);
        const join = async (retired?: AbortSignal): Promise<void> => {
          const body = async function* (): AsyncGenerator<readonly Uint8Array[]> {
            for await (const part of stripes.strand(retired)) yield [part];
          };
          await strands.join(body());
        };
        void join();
        const joined = lives.map(async (turns) => {
          const retirement = new AbortController();
          const over = join(retirement.signal);
          for (let i = 0; i < turns; i++) await turn();
          retirement.abort();
          await over;
        });
        assert.ok((await read(strands)).equals(bytes));
        await Promise.all(joined);
        assert.equal(stripes.at, 77 + bytes.length);
      },
    );
    await fc.assert(property, { numRuns: 200 });
  });

  void test('a strand that is ahead is not read on: nothing is put aside', async () => {
    const ahead = new Body([chunk(1, Buffer.from('b')), chunk(2, Buffer.from('c')), chunk(3, Buffer.alloc(0))]);
    const strands = of(0, [ahead]);
    const reading = read(strands);
    for (let i = 0; i < 50; i++) await turn();
    assert.equal(ahead.asked, 1);
    void strands.join(new Body([chunk(0, Buffer.from('a'))]));
    assert.equal((await reading).toString(), 'abc');
  });

  void test('what has come is given before it is told that a strand broke', async () => {
    const broken = new Body([chunk(0, Buffer.from('a'))], new Failure('interrupted', 'cut'));
    const strands = of(0, [broken, new Body([chunk(1, Buffer.from('b'))], 'silence')]);
    const given: string[] = [];
    const reading = async (): Promise<void> => {
      for await (const parts of strands.bytes) given.push(Buffer.concat(parts).toString());
    };
    await assert.rejects(reading(), isFailure('interrupted', /cut/));
    assert.equal(given.join(''), 'ab');
  });

  void test('a strand that stalls, and one that never comes: `timeout`, and all are let go', async () => {
    const stalled = [new Body([chunk(0, Buffer.from('a'))], 'silence'), new Body([chunk(2, Buffer.from('c'))])];
    await assert.rejects(read(of(0, stalled, 100)), isFailure('timeout', /byte 1 of the log is due/));
    assert.ok(stalled.every(({ returned }) => returned));
    const missing = [new Body([chunk(1, Buffer.from('b')), chunk(2, Buffer.alloc(0))])];
    await assert.rejects(read(of(0, missing, 100)), isFailure('timeout', /byte 0 of the log is due/));
  });

  void test('strands that all end without the end of the log are no log', async () => {
    await assert.rejects(read(of(0, [new Body([chunk(0, Buffer.from('a'))])], 100)), isFailure('timeout'));
  });

  void test('what is no strand is `bad-request`', async () => {
    const wrong: [string, Buffer[]][] = [
      ['before the upload', [chunk(6, Buffer.from('ab'))]],
      ['twice', [chunk(7, Buffer.from('ab')), chunk(8, Buffer.from('b'))]],
      ['too long', [encodeChunkHead(7, 2 ** 20 + 1)]],
      ['beyond all numbers', [Buffer.alloc(16, 0xff)]],
      ['torn', [encodeChunkHead(7, 10), Buffer.from('abc')]],
      ['torn head', [encodeChunkHead(7, 10).subarray(0, 7)]],
    ];
    for (const [what, parts] of wrong) {
      await assert.rejects(read(of(7, [new Body(parts)])), isFailure('bad-request'), what);
    }
  });

  void test('an upload has so many strands and no more; what comes after its end is let go', async () => {
    const bodies = Array.from({ length: MOST_STRANDS }, () => new Body([], 'silence'));
    const strands = of(0, bodies);
    const one = new Body([], 'silence');
    await assert.rejects(strands.join(one), isFailure('bad-request', /12 strands/));
    strands.close();
    await strands.join(one);
    assert.ok(bodies.every(({ returned }) => returned));
  });
});

void describe('dealing out', () => {
  void test('an error of the source is told to every strand, and none of them looks like the log’s end', async () => {
    const source = async function* (): AsyncGenerator<Buffer> {
      yield await turn(Buffer.from('a'));
      throw new Failure('too-much-at-once', 'given up');
    };
    const stripes = new Stripes(source(), 0);
    const drain = async (): Promise<number> => {
      let bytes = 0;
      for await (const part of stripes.strand()) bytes += part.length;
      return bytes;
    };
    const drained = await Promise.allSettled([drain(), drain(), drain()]);
    assert.ok(drained.every((one) => one.status === 'rejected' && isFailure('too-much-at-once')(one.reason)));
    await assert.rejects(drain(), isFailure('too-much-at-once'));
  });

  void test('stopped, it ends in an error, and the source is told', async () => {
    let ended = false;
    const source = async function* (): AsyncGenerator<Buffer> {
      try {
        for (;;) yield await turn(Buffer.from('a'));
      } finally {
        ended = true;
      }
    };
    const stripes = new Stripes(source(), 0);
    const strand = stripes.strand();
    assert.equal((await strand.next()).value?.length, 16);
    stripes.close();
    await strand.next();
    await assert.rejects(strand.next(), isFailure('interrupted', /stopped/));
    while (!ended) await turn();
  });
});
