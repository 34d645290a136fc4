/** What every implementation of the port `src/protocol/endpoint.ts` must do, over real disks. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { after, before, describe, test } from 'node:test';
import { digest } from '../../src/lib/digest.ts';
import type { Extent } from '../../src/model/extent.ts';
import type { Position } from '../../src/model/relationship.ts';
import {
  DIGEST_BLOCK,
  DIGEST_BYTES,
  type PrepareReplica,
  type ReplicaEndpoint,
  type TakeOver,
  type VerifyQuestion,
} from '../../src/protocol/endpoint.ts';
import { digestsOf } from '../faults/replica-host.ts';
import { PAGE, pageDigests } from '../../src/protocol/page-digest.ts';
import { inPieces, START, TestPrimary, thenSilence, type MadeLog } from '../faults/replica-primary.ts';

/** An endpoint with a replica server behind it, whose host the test can be told to change. */
export interface EndpointUnderTest {
  readonly endpoint: ReplicaEndpoint;
  /** The host behind it has become the primary of all relationships, with that epoch; null: it is none. */
  becomePrimary(epoch: number | null): void;
  /** What it was asked to take over, in order. */
  readonly takeOvers: readonly TakeOver[];
  /** Relationships whose removal it was told of. */
  readonly removed: readonly string[];
  close(): Promise<void>;
}

export function runEndpointConformance(name: string, make: () => Promise<EndpointUnderTest>): void {
  void describe(`the replica endpoint: ${name}`, () => {
    let it: EndpointUnderTest;
    let next = 1;

    before(async () => {
      it = await make();
    });
    after(async () => {
      await it.close();
    });

    /** A primary of a relationship of its own. */
    function primaryOf(seed: number): TestPrimary {
      return new TestPrimary(seed, `11111111-2222-4333-8444-${String(next++).padStart(12, '0')}`);
    }

    function request(primary: TestPrimary, more: Partial<PrepareReplica> = {}): PrepareReplica {
      return {
        id: primary.id,
        vmId: primary.id.replace('1111', '9999'),
        vmName: 'guest "1"',
        definition: "<domain type='qemu'/>",
        disks: primary.disks.map(({ target, size }) => ({ target, size })),
        epoch: 1,
        intervalSeconds: 5,
        history: 3,
        base: 'empty',
        start: START,
        ...more,
      };
    }

    async function prepared(seed: number): Promise<TestPrimary> {
      const primary = primaryOf(seed);
      await it.endpoint.prepare(request(primary));
      return primary;
    }

    async function put(primary: TestPrimary, log: MadeLog, offset = 0): Promise<Position> {
      const status = await it.endpoint.put(primary.id, log, offset, inPieces(log.bytes.subarray(offset)));
      return status.received;
    }

    void test('a relationship that it does not know is not found', async () => {
      const { id } = primaryOf(1);
      const log = { sequence: 1, logId: 'a'.repeat(32) };
      await assert.rejects(it.endpoint.status(id), { code: 'not-found' });
      await assert.rejects(it.endpoint.durableOffset(id, log), { code: 'not-found' });
      await assert.rejects(it.endpoint.put(id, log, 0, inPieces(Buffer.alloc(9))), { code: 'not-found' });
      await assert.rejects(it.endpoint.confirm(id, START, 1), { code: 'not-found' });
      await assert.rejects(it.endpoint.digests(id, { target: 'vda', from: 0, count: 1 }), { code: 'not-found' });
    });

    void test('preparing twice is preparing once', async () => {
      const primary = primaryOf(2);
      const first = await it.endpoint.prepare(request(primary));
      assert.deepEqual(
        { ...first, state: undefined },
        {
          id: primary.id,
          role: 'replica',
          state: undefined,
          epoch: 1,
          received: START,
          applied: START,
          vmRunning: false,
        },
      );
      assert.deepEqual(await it.endpoint.prepare(request(primary)), first);
      assert.deepEqual(await it.endpoint.status(primary.id), first);
    });

    void test('while nothing was received it can be prepared anew, with data it cannot', async () => {
      const primary = await prepared(3);
      const start = { ...START, sequence: 4 };
      assert.deepEqual((await it.endpoint.prepare(request(primary, { start }))).received, start);
      primary.position = start;
      await put(primary, await primary.log());
      const other = { ...START, sequence: 9 };
      await assert.rejects(it.endpoint.prepare(request(primary, { start: other })), { code: 'already-exists' });
      // The same as before: the answer got lost.
      assert.deepEqual((await it.endpoint.prepare(request(primary, { start }))).received, primary.position);
    });

    void test('a replica continues with new settings and a higher epoch, never with a lower one', async () => {
      const primary = await prepared(4);
      const { start: _, ...rest } = request(primary, { base: 'continue', epoch: 3, history: 1 });
      assert.equal((await it.endpoint.prepare(rest)).epoch, 3);
      await assert.rejects(it.endpoint.prepare({ ...rest, epoch: 2 }), { code: 'stale-epoch' });
      await assert.rejects(put(primary, await primary.log()), { code: 'stale-epoch' });
      const stranger = request(primaryOf(4), { base: 'continue' });
      await assert.rejects(it.endpoint.prepare(stranger), { code: 'not-found' });
    });

    void test('what cannot be is refused before anything is made of it', async () => {
      const primary = primaryOf(5);
      for (const wrong of [
        { id: '../../etc' },
        { disks: [{ target: '../vda', size: 4096 }] },
        { disks: [{ target: 'vda', size: -1 }] },
        { disks: [] },
        { history: -1 },
      ]) {
        await assert.rejects(it.endpoint.prepare(request(primary, wrong)), { code: 'bad-request' });
      }
      await assert.rejects(it.endpoint.prepare(request(primary, { base: 'compare' })), { code: 'not-found' });
      await assert.rejects(it.endpoint.status(primary.id), { code: 'not-found' });
    });

    void test('a replica has the disks that it was prepared with', async () => {
      const primary = await prepared(6);
      const disks = [{ target: 'vda', size: 4096 }];
      await assert.rejects(it.endpoint.prepare(request(primary, { disks })), { code: 'bad-request' });
    });

    void test('a log is acknowledged when it is whole, as often as it is sent', async () => {
      const primary = await prepared(7);
      const log = await primary.log();
      assert.equal(await it.endpoint.durableOffset(primary.id, log), 0);
      assert.deepEqual(await put(primary, log), log.makes);
      assert.deepEqual(await put(primary, log), log.makes);
      assert.equal(await it.endpoint.durableOffset(primary.id, log), log.bytes.length);
      // From its very end, with nothing: the acknowledgement got lost.
      assert.deepEqual(await put(primary, log, log.bytes.length), log.makes);
      assert.deepEqual(await put(primary, await primary.log()), primary.position);
    });

    void test('a log that was cut goes on at the durable offset', async () => {
      const primary = await prepared(8);
      const log = await primary.log({ changes: 10 });
      const cut = log.bytes.subarray(0, log.bytes.length - 100);
      await assert.rejects(it.endpoint.put(primary.id, log, 0, inPieces(cut)), { code: 'interrupted' });
      const offset = await it.endpoint.durableOffset(primary.id, log);
      assert.ok(offset > 0 && offset <= cut.length);
      assert.deepEqual(await put(primary, log, offset), log.makes);
    });

    void test('sending can be given up', async () => {
      const primary = await prepared(9);
      const log = await primary.log({ changes: 10 });
      const stop = new AbortController();
      const sending = it.endpoint.put(primary.id, log, 0, thenSilence(log.bytes.subarray(0, 5000)), stop.signal);
      setTimeout(() => stop.abort(new Error('given up')), 50);
      await assert.rejects(sending, (error) => stop.signal.aborted && error instanceof Error);
      assert.deepEqual(await put(primary, log, await it.endpoint.durableOffset(primary.id, log)), log.makes);
    });

    void test('logs that do not follow, and damaged ones, are told apart', async () => {
      const primary = await prepared(10);
      const first = await primary.log();
      const second = await primary.log();
      await assert.rejects(put(primary, second), { code: 'not-following' });
      const damaged = Buffer.from(first.bytes);
      damaged[damaged.length - 60]! ^= 1;
      await assert.rejects(put(primary, { ...first, bytes: damaged }), { code: 'bad-log' });
      await put(primary, first);
      await put(primary, second);
      await assert.rejects(put(primary, first), { code: 'not-following' });
    });

    void test('a confirmation is for the position that was received', async () => {
      const primary = await prepared(11);
      const log = await primary.log();
      await put(primary, log);
      const status = await it.endpoint.confirm(primary.id, log.makes, log.point!.instant + 1);
      assert.deepEqual(status.received, log.makes);
      await assert.rejects(it.endpoint.confirm(primary.id, START, 5), { code: 'not-following' });
    });

    void test('digests are those of the disks', async () => {
      const primary = await prepared(12);
      for (let i = 0; i < 3; i++) await put(primary, await primary.log({ changes: 10 }));
      for (const [disk, { target, size }] of primary.disks.entries()) {
        const blocks = Math.ceil(size / DIGEST_BLOCK);
        const wanted = Array.from({ length: blocks }, (_, block) =>
          digest(primary.bytes[disk]!.subarray(block * DIGEST_BLOCK, (block + 1) * DIGEST_BLOCK)),
        );
        for (const reread of [false, true]) {
          const question = { target, from: 0, count: blocks, reread };
          assert.ok(Buffer.concat(wanted).equals(await it.endpoint.digests(primary.id, question)));
        }
        const beyond = await it.endpoint.digests(primary.id, { target, from: 0, count: blocks + 1 });
        assert.ok(Buffer.concat([...wanted, Buffer.alloc(DIGEST_BYTES)]).equals(beyond), 'nothing is known there');
        const tooMany = { target, from: 0, count: 65_537 };
        await assert.rejects(it.endpoint.digests(primary.id, tooMany), { code: 'bad-request' });
      }
      const notYet = await it.endpoint.digests(primary.id, { target: 'vdz', from: 0, count: 2 });
      assert.ok(Buffer.alloc(2 * DIGEST_BYTES).equals(notYet), 'a disk that may come with the next log');
    });

    void test('pages are those of the disks, for who asks about the state that they hold', async () => {
      const primary = await prepared(17);
      for (let i = 0; i < 3; i++) await put(primary, await primary.log({ changes: 10 }));
      const salt = randomBytes(16);
      const ask = async (target: string, runs: readonly Extent[], position = primary.position) =>
        await it.endpoint.pageDigests!(primary.id, { target, position, salt: salt.toString('hex'), runs });
      for (const [disk, { target, size }] of primary.disks.entries()) {
        const bytes = primary.bytes[disk]!;
        const whole = [{ offset: 0, length: size }];
        assert.ok(pageDigests(salt, bytes).equals(await ask(target, whole)));
        const last = Math.floor((size - 1) / PAGE) * PAGE;
        const some = [
          { offset: PAGE, length: 2 * PAGE },
          { offset: last, length: size - last },
        ];
        const wanted = some.map(({ offset, length }) => pageDigests(salt, bytes.subarray(offset, offset + length)));
        assert.ok(Buffer.concat(wanted).equals(await ask(target, some)));
        for (const wrong of [
          [{ offset: 512, length: PAGE }],
          [{ offset: 0, length: size + PAGE }],
          [{ offset: 0, length: 100 }],
          some.toReversed(),
        ]) {
          await assert.rejects(ask(target, wrong), { code: 'bad-request' });
        }
        const before = { ...primary.position, state: 'f'.repeat(32) };
        await assert.rejects(ask(target, whole, before), { code: 'not-following' });
      }
      await assert.rejects(ask('vdz', [{ offset: 0, length: PAGE }]), { code: 'not-found' });
    });

    void test('a comparison names the blocks that differ, and who asks about another state is refused', async () => {
      const primary = await prepared(19);
      for (let i = 0; i < 3; i++) await put(primary, await primary.log({ changes: 10 }));
      const [{ target, size }] = primary.disks as [{ target: string; size: number }];
      const bytes = primary.bytes[0]!;
      const blocks = Math.ceil(size / DIGEST_BLOCK);
      const digests = digestsOf(bytes);
      const question = { target, position: primary.position, from: 0, digests, changed: [] };
      const ask = async (more: Partial<VerifyQuestion> = {}) =>
        await it.endpoint.verify!(primary.id, { ...question, ...more });
      assert.deepEqual(await ask(), { different: [] });
      // The primary's own reading isn't what it sent: nothing is wrong here.
      const other = Buffer.from(digests);
      other[3 * DIGEST_BYTES]! ^= 1;
      assert.deepEqual(await ask({ digests: other, changed: [3] }), { different: [{ block: 3, side: 'primary' }] });
      assert.equal((await it.endpoint.status(primary.id)).damage, undefined);
      // Neither side knows: it is to be sent again, until it is found the same.
      assert.deepEqual(await ask({ digests: other }), { different: [{ block: 3, side: 'unknown' }] });
      const offset = 3 * DIGEST_BLOCK;
      assert.deepEqual((await it.endpoint.status(primary.id)).damage, [{ target, offset, length: DIGEST_BLOCK }]);
      assert.deepEqual(await ask(), { different: [] });
      assert.equal((await it.endpoint.status(primary.id)).damage, undefined);
      // What is left out isn't looked at.
      other.fill(0, 3 * DIGEST_BYTES, 4 * DIGEST_BYTES);
      assert.deepEqual(await ask({ digests: other }), { different: [] });
      await assert.rejects(ask({ from: blocks - 1 }), { code: 'bad-request' });
      await assert.rejects(ask({ target: 'vdz' }), { code: 'not-found' });
      const before = { ...primary.position, state: 'f'.repeat(32) };
      await assert.rejects(ask({ position: before }), { code: 'not-following' });
    });

    void test('comparing with what is there goes on from another position, and keeps its points', async () => {
      const primary = await prepared(13);
      await put(primary, await primary.log());
      const start = { ...START, sequence: 8 };
      const status = await it.endpoint.prepare(request(primary, { base: 'compare', start }));
      assert.deepEqual(status.received, start);
      primary.position = start;
      assert.deepEqual(await put(primary, await primary.log()), primary.position);
    });

    void test('taking over is the host’s business', async () => {
      const primary = await prepared(14);
      const asked = { planId: 'plan-1', epoch: 2, position: START, start: false };
      const status = await it.endpoint.takeOver(primary.id, asked);
      assert.equal(status.role, 'primary');
      assert.deepEqual(it.takeOvers.at(-1), asked);
    });

    void test('a host that has become the primary takes nothing', async () => {
      const primary = await prepared(15);
      const log = await primary.log();
      it.becomePrimary(2);
      try {
        assert.equal((await it.endpoint.status(primary.id)).role, 'primary');
        await assert.rejects(put(primary, log), { code: 'stale-epoch' });
        await assert.rejects(it.endpoint.confirm(primary.id, START, 1), { code: 'stale-epoch' });
        await assert.rejects(it.endpoint.prepare(request(primary)), { code: 'stale-epoch' });
        await assert.rejects(it.endpoint.remove(primary.id, { keepDisks: false }), { code: 'wrong-role' });
      } finally {
        it.becomePrimary(null);
      }
      assert.deepEqual(await put(primary, log), log.makes);
    });

    void test('a removed replica is gone, and removing it again is no error', async () => {
      const primary = await prepared(16);
      await put(primary, await primary.log());
      await it.endpoint.remove(primary.id, { keepDisks: false });
      await it.endpoint.remove(primary.id, { keepDisks: false });
      assert.ok(it.removed.includes(primary.id));
      await assert.rejects(it.endpoint.status(primary.id), { code: 'not-found' });
      assert.deepEqual((await it.endpoint.prepare(request(primary))).received, START);
    });
  });
}
