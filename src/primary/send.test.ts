import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { test } from 'node:test';
import fc from 'fast-check';
import { Failure, type FailureCode } from '../model/failure.ts';
import type { ReplicaEndpoint, ReplicaStatus } from '../protocol/endpoint.ts';
import type { Sendable } from './outbox.ts';
import { sendLog } from './send.ts';

const LOG = { sequence: 7, logId: 'a'.repeat(32) };
const UNUSED = (): never => assert.fail('not what sending asks for');

/** A replica that keeps bytes in memory: `plan` says, try by try, after how many of them it breaks, and how. */
interface Break {
  /** Bytes that arrive in this try before it breaks. */
  readonly after: number;
  /** Bytes of these that are lost again, because they weren't durable. */
  readonly lost: number;
  readonly code: FailureCode;
}

class ShakyReplica {
  readonly received: Buffer[] = [];
  /** Offsets that sending went on at. */
  readonly offsets: number[] = [];
  /** Bytes taken, all tries together. */
  taken = 0;
  readonly #plan: Break[];

  constructor(plan: readonly Break[]) {
    this.#plan = [...plan];
  }

  get bytes(): Buffer {
    return Buffer.concat(this.received);
  }

  readonly endpoint: ReplicaEndpoint = {
    prepare: UNUSED,
    status: UNUSED,
    confirm: UNUSED,
    digests: UNUSED,
    takeOver: UNUSED,
    remove: UNUSED,
    durableOffset: async () => await Promise.resolve(this.bytes.length),
    put: async (_id, log, offset, body) => {
      assert.deepEqual(log, LOG);
      assert.equal(offset, this.bytes.length, 'goes on where the replica is');
      this.offsets.push(offset);
      const trouble = this.#plan.shift();
      let left = trouble?.after ?? Infinity;
      for await (const chunk of body) {
        const part = Buffer.from(chunk.subarray(0, left));
        this.received.push(part);
        this.taken += part.length;
        left -= part.length;
        if (left <= 0) break;
      }
      if (trouble === undefined) return {} as ReplicaStatus;
      const kept = this.bytes.subarray(0, Math.max(offset, this.bytes.length - trouble.lost));
      this.received.splice(0, Infinity, kept);
      throw new Failure(trouble.code, 'broke');
    },
  };
}

const CHUNK = 1000;

function logOf(bytes: Buffer): Sendable {
  return {
    ...LOG,
    async *from(offset) {
      for (let at = offset; at < bytes.length; at += CHUNK) yield await Promise.resolve(bytes.subarray(at, at + CHUNK));
    },
  };
}

function options(signal = new AbortController().signal) {
  const troubles: (string | undefined)[] = [];
  const onTrouble = (failure: Failure | undefined) => void troubles.push(failure?.code);
  const progress = { sent: 0, resent: 0, breaks: 0 };
  return { relationship: 'r', fresh: true, intervalSeconds: 1, signal, progress, onTrouble, troubles };
}

void test('without trouble a log is sent once, from its beginning, and the replica is not asked before', async () => {
  const bytes = randomBytes(5500);
  const replica = new ShakyReplica([]);
  const endpoint = { ...replica.endpoint, durableOffset: UNUSED };
  const { troubles, ...rest } = options();
  await sendLog(endpoint, logOf(bytes), rest);
  assert.ok(replica.bytes.equals(bytes));
  assert.deepEqual(rest.progress, { sent: 5500, resent: 0, breaks: 0 });
  assert.deepEqual(troubles, [undefined]);
});

void test('a log that an earlier run has begun to send goes on where the replica is', async () => {
  const bytes = randomBytes(5500);
  const replica = new ShakyReplica([]);
  replica.received.push(bytes.subarray(0, 5000));
  const { troubles: _, ...rest } = options();
  await sendLog(replica.endpoint, logOf(bytes), { ...rest, fresh: false });
  assert.ok(replica.bytes.equals(bytes));
  assert.deepEqual(rest.progress, { sent: 500, resent: 0, breaks: 0 });
});

void test('whatever breaks, the replica has the log in the end, and only what it lost is sent again', async () => {
  const breaks = fc.record({
    after: fc.integer({ min: 1, max: 4000 }),
    lost: fc.integer({ min: 0, max: 3000 }),
    code: fc.constantFrom<FailureCode>('interrupted', 'unreachable', 'timeout', 'bad-log', 'busy'),
  });
  await fc.assert(
    fc.asyncProperty(fc.array(breaks, { maxLength: 2 }), fc.integer({ min: 4001, max: 9000 }), async (plan, size) => {
      const bytes = randomBytes(size);
      const replica = new ShakyReplica(plan);
      const { troubles, ...rest } = options();
      await sendLog(replica.endpoint, logOf(bytes), rest);
      assert.ok(replica.bytes.equals(bytes));
      assert.equal(replica.offsets.length, plan.length + 1);
      const { sent, resent, breaks: counted } = rest.progress;
      assert.equal(counted, plan.length);
      // A chunk in whose middle it broke was handed over, but is not counted.
      assert.ok(replica.taken - sent <= CHUNK * plan.length && sent <= replica.taken, `${sent} of ${replica.taken}`);
      assert.ok(resent <= sent && resent >= 0);
      assert.ok(resent <= plan.reduce((sum, { lost }) => sum + lost, 0));
      assert.deepEqual(troubles, [...plan.map(({ code }) => code), undefined]);
    }),
    { numRuns: 12 },
  );
});

void test('an acknowledgement that got lost costs a question and an empty try', async () => {
  const bytes = randomBytes(3000);
  const replica = new ShakyReplica([{ after: Infinity, lost: 0, code: 'interrupted' }]);
  const { troubles, ...rest } = options();
  await sendLog(replica.endpoint, logOf(bytes), rest);
  assert.deepEqual(replica.offsets, [0, 3000]);
  assert.deepEqual(rest.progress, { sent: 3000, resent: 0, breaks: 1 });
  assert.deepEqual(troubles, ['interrupted', undefined]);
});

void test('a replica that can not be asked for its offset is asked again', async () => {
  const bytes = randomBytes(3000);
  const replica = new ShakyReplica([{ after: 1500, lost: 0, code: 'interrupted' }]);
  let questions = 0;
  const durableOffset = async () => {
    if (++questions === 1) throw new Failure('unreachable', 'gone');
    return await Promise.resolve(replica.bytes.length);
  };
  const { troubles, ...rest } = options();
  await sendLog({ ...replica.endpoint, durableOffset }, logOf(bytes), rest);
  assert.ok(replica.bytes.equals(bytes));
  assert.deepEqual(troubles, ['interrupted', 'unreachable', undefined]);
});

void test('what trying again can not heal surfaces at once', async () => {
  for (const code of ['not-following', 'stale-epoch', 'format-unknown'] as const) {
    const replica = new ShakyReplica([{ after: 1000, lost: 0, code }]);
    const { troubles, ...rest } = options();
    await assert.rejects(sendLog(replica.endpoint, logOf(randomBytes(3000)), rest), { code });
    assert.equal(replica.offsets.length, 1);
    assert.deepEqual(troubles, []);
  }
});

void test('sending ends with the reason it is aborted for, while it sends and while it waits to try again', async () => {
  const reason = new Failure('interrupted', 'stopping');
  for (const code of ['interrupted', 'no-space'] as const) {
    const replica = new ShakyReplica([{ after: 1000, lost: 0, code }]);
    const stop = new AbortController();
    const { troubles: _, ...rest } = options(stop.signal);
    const onTrouble = () => stop.abort(reason);
    await assert.rejects(sendLog(replica.endpoint, logOf(randomBytes(3000)), { ...rest, onTrouble }), reason);
    assert.equal(replica.offsets.length, 1);
  }
  const stop = new AbortController();
  const log: Sendable = {
    ...LOG,
    async *from() {
      yield await Promise.resolve(randomBytes(10));
      stop.abort(reason);
      yield randomBytes(10);
    },
  };
  const replica = new ShakyReplica([]);
  const { troubles: _, ...rest } = options(stop.signal);
  await assert.rejects(sendLog(replica.endpoint, log, rest), reason);
  assert.equal(replica.bytes.length, 10);
});
