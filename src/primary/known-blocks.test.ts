/** Whatever happens to the files in which the primary keeps what the replica has: what they say is true, or isn't believed. */
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { cp, mkdtemp, open, readFile, rm, stat, writeFile, type FileHandle } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test, type TestContext } from 'node:test';
import { newSeed, seeded } from '../../test/faults/replica-primary.ts';
import { blocksOf, isKnown } from '../digests/digest-file.ts';
import { DigestPages } from '../digests/digest-pages.ts';
import { DIGEST_SIZE, digestOf } from '../lib/digest.ts';
import { silentLog } from '../lib/log.ts';
import type { Position } from '../model/relationship.ts';
import { DIGEST_BLOCK } from '../protocol/endpoint.ts';
import { KnownBlocks, type LearnedOfDisks } from './known-blocks.ts';
import { Learning } from './learned.ts';

const BLOCKS = 700; // pages of 255 entries: three of them
const DISK = { target: 'vda', size: BLOCKS * DIGEST_BLOCK - 512 };

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'us-k-'));
});
afterEach(async () => {
  await rm(directory, { recursive: true });
});

const reopened = (): KnownBlocks => new KnownBlocks(join(directory, 'known'), silentLog());

function positionAfter({ epoch, sequence }: Position): Position {
  return { epoch, sequence: sequence + 1, state: randomBytes(16).toString('hex') };
}

const START: Position = { epoch: 1, sequence: 0, state: '0'.repeat(32) };

/** What a lane learns of a log that holds these blocks. */
function learnedOf(blocks: ReadonlyMap<number, Buffer | undefined>): LearnedOfDisks {
  const learning = new Learning();
  for (const [block, digest] of [...blocks].toSorted(([a], [b]) => a - b)) {
    if (digest === undefined) learning.unclear({ from: block, to: block + 1 });
    else learning.sent.add(block, digest);
  }
  return [[learning.take()]];
}

/** All that is known where the primary stands, as a lane would read it. */
async function all(known: KnownBlocks, position: Position, epoch = 1): Promise<Buffer> {
  const [pages] = await known.at({ epoch, position }, [DISK]);
  assert.ok(pages !== undefined);
  const file = await open(pages.path, 'r');
  try {
    return await new DigestPages(file, pages.id).read(0, BLOCKS);
  } finally {
    await file.close();
  }
}

async function knownCount(known: KnownBlocks, position: Position, epoch = 1): Promise<number> {
  const found = await all(known, position, epoch);
  return Array.from({ length: BLOCKS }, (_, i) => found.subarray(i * 16, i * 16 + 16)).filter(isKnown).length;
}

type Write = (this: FileHandle, buffers: readonly Buffer[], position: number) => Promise<unknown>;

/** Lets the process "die" at a chosen write into a file: that one and later ones never happen, and nobody hears of it. */
class Deaths {
  readonly #handles = new Set<FileHandle>();
  #left = Number.POSITIVE_INFINITY;
  #died = Promise.withResolvers<'died'>();

  static async install(t: TestContext): Promise<Deaths> {
    const deaths = new Deaths();
    const any = await open(join(directory, 'any'), 'w');
    const prototype = Object.getPrototypeOf(any) as { writev: Write };
    await any.close();
    const { writev } = prototype;
    t.mock.method(prototype, 'writev', async function (this: FileHandle, ...args: Parameters<Write>) {
      deaths.#handles.add(this);
      if (--deaths.#left >= 0) return await writev.apply(this, args);
      deaths.#died.resolve('died');
      return await new Promise<never>(() => undefined);
    });
    return deaths;
  }

  /** Takes a step, which dies at its write number `writes`, from 0. Says whether it did, and closes what it had open then. */
  async at(writes: number, step: () => Promise<unknown>): Promise<boolean> {
    this.#died = Promise.withResolvers();
    this.#left = writes;
    const end = await Promise.race([step(), this.#died.promise]);
    this.#left = Number.POSITIVE_INFINITY;
    if (end !== 'died') return false;
    await this.bury();
    return true;
  }

  async bury(): Promise<void> {
    for (const handle of this.#handles) if (handle.fd >= 0) await handle.close();
    this.#handles.clear();
  }
}

/** The replica, and a primary that may die at any write. */
class World {
  known = reopened();
  position = START;
  deaths = 0;
  /** What the replica has, by block. */
  readonly replica = randomBytes(BLOCKS * DIGEST_SIZE);
  readonly #below: (limit: number) => number;
  readonly #deaths: Deaths;

  constructor(random: () => number, deaths: Deaths) {
    this.#below = (limit) => Math.floor(random() * limit);
    this.#deaths = deaths;
  }

  /** No digest is another than the replica's; gives how many are known. */
  async check(): Promise<number> {
    const found = await all(this.known, this.position);
    let count = 0;
    for (let block = 0; block < BLOCKS; block++) {
      const one = found.subarray(block * DIGEST_SIZE, (block + 1) * DIGEST_SIZE);
      if (!isKnown(one)) continue;
      assert.ok(one.equals(this.replica.subarray(block * DIGEST_SIZE, (block + 1) * DIGEST_SIZE)), `block ${block}`);
      count++;
    }
    return count;
  }

  /** A log and its way: it may be acknowledged once it is whole, whatever becomes of the primary meanwhile. */
  async log(): Promise<void> {
    const blocks = this.#blocks();
    const makes = positionAfter(this.position);
    await this.#step(() => this.known.at({ epoch: 1, position: this.position }, [DISK]));
    await this.#step(() => this.known.expect(makes, learnedOf(blocks)));
    if (this.#below(6) === 0) return; // given up
    for (const [block, digest] of blocks) (digest ?? randomBytes(16)).copy(this.replica, block * DIGEST_SIZE);
    this.position = makes;
    await this.#step(() => this.known.reached(makes));
  }

  #blocks(): Map<number, Buffer | undefined> {
    const blocks = new Map<number, Buffer | undefined>();
    const from = this.#below(BLOCKS);
    for (let i = this.#below(60); i >= 0; i--) {
      const block = this.#below(2) === 0 ? this.#below(BLOCKS) : Math.min(BLOCKS - 1, from + i);
      blocks.set(block, this.#below(8) === 0 ? undefined : randomBytes(DIGEST_SIZE));
    }
    return blocks;
  }

  /** Dies in it now and then; or ends in order after it. */
  async #step(step: () => Promise<unknown>): Promise<void> {
    const mayDie = this.#below(4) === 0;
    if (await this.#deaths.at(mayDie ? this.#below(4) : Number.POSITIVE_INFINITY, step)) this.deaths++;
    else if (this.#below(10) === 0) await this.known.close();
    else return;
    this.known = reopened();
  }
}

void test('never says that the replica has what it has not, at whichever write the daemon dies', async (t) => {
  const seed = newSeed();
  t.diagnostic(`SEED=${seed}`);
  const deaths = await Deaths.install(t);
  const world = new World(seeded(seed), deaths);
  let most = 0;
  for (let round = 0; round < 200; round++) {
    await world.log();
    most = Math.max(most, await world.check());
  }
  t.diagnostic(`${world.deaths} deaths, at most ${most} of ${BLOCKS} blocks known`);
  assert.ok(most > BLOCKS / 10 && world.deaths > 15);
  await world.known.close();
  assert.ok((await stat(join(directory, 'known', 'vda.digests'))).size <= DISK.size * 0.0003 + 4096);
});

/** All blocks known, closed in order. */
async function filled(): Promise<Position> {
  const known = new KnownBlocks(join(directory, 'known'), silentLog());
  const makes = positionAfter(START);
  await known.at({ epoch: 1, position: START }, [DISK]);
  const blocks = new Map(Array.from({ length: BLOCKS }, (_, block) => [block, randomBytes(DIGEST_SIZE)]));
  await known.expect(makes, learnedOf(blocks));
  await known.reached(makes);
  assert.equal(await knownCount(known, makes), BLOCKS);
  await known.close();
  return makes;
}

void test('what was closed in order is known again; at another position, in another epoch, of another disk it is not', async () => {
  const makes = await filled();
  let known = reopened();
  assert.equal(await knownCount(known, makes), BLOCKS);
  await known.close();
  for (const [position, epoch] of [
    [START, 1],
    [makes, 2],
    [{ ...makes, state: 'f'.repeat(32) }, 1],
  ] as const) {
    await cp(join(directory, 'known'), join(directory, 'kept'), { recursive: true });
    known = reopened();
    assert.equal(await knownCount(known, position, epoch), 0);
    await known.close();
    // And what begins anew isn't what it was when it comes back.
    known = reopened();
    assert.equal(await knownCount(known, makes), 0);
    await known.forget();
    await cp(join(directory, 'kept'), join(directory, 'known'), { recursive: true });
  }
  assert.equal(blocksOf(DISK.size), BLOCKS);
});

void test('a file from a backup is believed by nobody, once the replica has moved on', async () => {
  const makes = await filled();
  await cp(join(directory, 'known'), join(directory, 'backup'), { recursive: true });
  const known = reopened();
  await known.at({ epoch: 1, position: makes }, [DISK]);
  const next = positionAfter(makes);
  await known.expect(next, learnedOf(new Map([[5, randomBytes(16)]])));
  await known.reached(next);
  assert.equal(await knownCount(known, next), BLOCKS);
  await known.forget();
  await cp(join(directory, 'backup'), join(directory, 'known'), { recursive: true });
  const restored = reopened();
  assert.equal(await knownCount(restored, next), 0);
  await restored.close();
});

void test('what was open when the machine went down is not believed by its next boot', async () => {
  const makes = await filled();
  const known = reopened();
  await known.at({ epoch: 1, position: makes }, [DISK]); // never closed
  const path = join(directory, 'known', 'vda.digests');
  const present = await readFile(path);
  assert.match(present.toString('latin1', 0, 4096), /"boot":"[0-9a-f-]{36}"/);
  await known.close();
  await writeFile(path, present);
  const sameBoot = reopened();
  assert.equal(await knownCount(sameBoot, makes), BLOCKS, 'the same boot: written is written');
  await sameBoot.close();
  await withBoot(path, '00000000-0000-0000-0000-000000000000');
  const nextBoot = reopened();
  assert.equal(await knownCount(nextBoot, makes), 0);
  await nextBoot.close();
});

/** Writes into the header of a file that another boot has it open. */
async function withBoot(path: string, boot: string): Promise<void> {
  const bytes = await readFile(path);
  const body = bytes.subarray(16, 4096);
  const about = JSON.parse(body.toString('utf8', 0, body.indexOf(0))) as { about: { boot: string } };
  about.about.boot = boot;
  body.fill(0);
  body.write(JSON.stringify(about));
  digestOf(body).copy(bytes);
  await writeFile(path, bytes);
}

void test('a log that is given up costs what it held, and the next one that', async () => {
  const makes = await filled();
  const known = reopened();
  await known.at({ epoch: 1, position: makes }, [DISK]);
  const lost = positionAfter(makes);
  await known.expect(
    lost,
    learnedOf(
      new Map([
        [1, randomBytes(16)],
        [2, undefined],
      ]),
    ),
  );
  assert.equal(await knownCount(known, makes), BLOCKS - 2);
  const next = positionAfter(makes);
  await known.expect(next, learnedOf(new Map([[1, randomBytes(16)]])));
  await known.reached(next);
  assert.equal(await knownCount(known, next), BLOCKS - 1);
  await known.close();
  const stale = reopened();
  assert.equal(await knownCount(stale, lost), 0);
  await stale.close();
});

void test('a file that can not be written is given up, whole: what it said before is not believed either', async (t) => {
  const next = positionAfter(await filled());
  const learned = learnedOf(new Map([[1, randomBytes(16)]]));
  for (const step of ['expect', 'reached', 'note', 'close'] as const) {
    const makes = await filled();
    const known = reopened();
    assert.equal(await knownCount(known, makes), BLOCKS);
    if (step === 'reached') await known.expect(next, learned);
    const any = await open(join(directory, 'any'), 'w');
    const broken = t.mock.method(Object.getPrototypeOf(any) as { writev: Write }, 'writev', async () => {
      throw Object.assign(new Error('a broken device'), { code: 'EIO' });
    });
    await any.close();
    if (step === 'expect') await known.expect(next, learned);
    else if (step === 'reached') await known.reached(next);
    else if (step === 'note') await known.note(learned);
    else await known.close();
    assert.ok(broken.mock.callCount() > 0, step);
    broken.mock.restore();
    await assert.rejects(stat(join(directory, 'known', 'vda.digests')), { code: 'ENOENT' }, step);
    assert.equal(await knownCount(known, makes), 0, step);
    await known.close();
  }
});
