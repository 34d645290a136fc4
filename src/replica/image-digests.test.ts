import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { appendFile, mkdtemp, open, readFile, rename, rm, stat, symlink, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { DIGEST_SIZE } from '../lib/digest.ts';
import { seeded } from '../../test/faults/replica-primary.ts';
import { blocksOf } from '../digests/digest-file.ts';
import { PAGE_ENTRIES } from '../digests/digest-pages.ts';
import { closeImageDigests, openImageDigests, sealImageDigests } from './image-digests.ts';

const PAGE = 4096;
/** More than two spans of pages, and a part of a page. */
const BLOCKS = 130 * PAGE_ENTRIES + 7;
const SIZE = BLOCKS * 65_536 - 1000;

let directory: string;
let path: string;
let image: { path: string; size: number };
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), 'us-d-'));
  path = join(directory, 'vda.digests');
  image = { path: join(directory, 'vda.qcow2'), size: SIZE };
  await writeFile(image.path, 'what it holds is not looked at');
});
afterEach(async () => {
  await rm(directory, { recursive: true });
});

/** What a file knows of all blocks. */
async function reopened(): Promise<Buffer> {
  const file = await openImageDigests(path, image);
  try {
    return await file.read(0, BLOCKS);
  } finally {
    await closeImageDigests(file, image);
  }
}

/** All digests, in a file that was closed in order. */
async function filled(): Promise<Buffer> {
  const digests = randomBytes(BLOCKS * DIGEST_SIZE);
  const file = await openImageDigests(path, image);
  await file.write([{ from: 0, digests }]);
  await closeImageDigests(file, image);
  return digests;
}

void describe('a file of digests', () => {
  void test('knows what was written, wherever pages and spans end, and nothing else', async () => {
    const random = seeded(7);
    const below = (limit: number) => Math.floor(random() * limit);
    const model = Buffer.alloc(BLOCKS * DIGEST_SIZE);
    let file = await openImageDigests(path, image);
    for (let round = 0; round < 40; round++) {
      const runs = [];
      for (let at = below(3000); at < BLOCKS; at += 1 + below(9000)) {
        const digests = randomBytes(DIGEST_SIZE * Math.min(BLOCKS - at, 1 + below(round % 2 === 0 ? 3 : 700)));
        runs.push({ from: at, digests });
        digests.copy(model, at * DIGEST_SIZE);
        at += digests.length / DIGEST_SIZE;
      }
      await file.write(runs);
      const forgotten = { from: below(BLOCKS), to: BLOCKS - below(20) };
      if (round % 7 === 3 && forgotten.to > forgotten.from) {
        await file.forget([forgotten]);
        model.fill(0, forgotten.from * DIGEST_SIZE, forgotten.to * DIGEST_SIZE);
      }
      const from = below(BLOCKS);
      const count = 1 + below(BLOCKS - from);
      const wanted = model.subarray(from * DIGEST_SIZE, (from + count) * DIGEST_SIZE);
      assert.ok(wanted.equals(await file.read(from, count)), `blocks ${from}+${count}, round ${round}`);
      if (round % 10 === 9) {
        await closeImageDigests(file, image);
        file = await openImageDigests(path, image);
      }
    }
    assert.ok(model.equals(await file.read(0, BLOCKS)));
    await closeImageDigests(file, image);
    assert.ok((await stat(path)).size <= SIZE * 0.0003, `${(await stat(path)).size} bytes for ${SIZE}`);
    assert.equal(blocksOf(SIZE), BLOCKS);
  });

  void test('forgets a page that is torn or moved, and no other', async () => {
    const digests = await filled();
    const bytes = await readFile(path);
    bytes[5 * PAGE + 2000]! ^= 1; // page 4: a flipped bit
    bytes.copy(bytes, 9 * PAGE, 8 * PAGE, 9 * PAGE); // page 8: another one's content
    bytes.fill(0, 20 * PAGE + 512, 21 * PAGE); // page 19: only its first sector was written
    await writeFile(path, bytes);
    for (const page of [4, 8, 19]) digests.fill(0, page * PAGE_ENTRIES * 16, (page + 1) * PAGE_ENTRIES * 16);
    assert.ok(digests.equals(await reopened()));
  });

  void test('forgets all when the image was changed behind its back, or is another one', async () => {
    const nothing = Buffer.alloc(BLOCKS * DIGEST_SIZE);
    let digests = await filled();
    assert.ok(digests.equals(await reopened()));
    await appendFile(image.path, 'somebody wrote');
    assert.ok(nothing.equals(await reopened()));
    digests = await filled();
    assert.ok(digests.equals(await reopened()));
    await writeFile(`${image.path}.new`, 'restored');
    await rename(`${image.path}.new`, image.path);
    assert.ok(nothing.equals(await reopened()));
  });

  void test('forgets all when the image was restored in place, as long and with the times that it had', async () => {
    const before = new Date('2026-01-02T03:04:05Z');
    await utimes(image.path, before, before);
    const digests = await filled();
    assert.ok(digests.equals(await reopened()));
    const was = await stat(image.path);
    await writeFile(image.path, 'what it held is not looked at '.slice(0, was.size), { flag: 'r+' });
    await utimes(image.path, before, before);
    const now = await stat(image.path);
    assert.deepEqual([now.ino, now.size, now.mtimeMs], [was.ino, was.size, was.mtimeMs]);
    assert.ok(Buffer.alloc(BLOCKS * DIGEST_SIZE).equals(await reopened()));
  });

  void test('is believed after a crash between two logs, and not after one while the image was written', async () => {
    const digests = randomBytes(BLOCKS * DIGEST_SIZE);
    const file = await openImageDigests(path, image);
    await appendFile(image.path, 'we wrote');
    await file.write([{ from: 0, digests }]);
    await sealImageDigests(file, image);
    await file.close(); // as a kill does it
    assert.ok(digests.equals(await reopened()));
    const again = await openImageDigests(path, image);
    await appendFile(image.path, 'we wrote, or somebody');
    await again.close();
    assert.ok(Buffer.alloc(BLOCKS * DIGEST_SIZE).equals(await reopened()));
  });

  void test('is gone when it can not be begun, or ended', async () => {
    await symlink('/dev/full', path);
    await assert.rejects(openImageDigests(path, image), { code: 'ENOSPC' });
    await assert.rejects(stat(path), { code: 'ENOENT' });
    const file = await openImageDigests(path, image);
    await file.write([{ from: 0, digests: randomBytes(DIGEST_SIZE) }]);
    await assert.rejects(closeImageDigests(file, { path: `${image.path}.gone` }), { code: 'ENOENT' });
    await assert.rejects(stat(path), { code: 'ENOENT' });
  });

  void test('begins anew when it is damaged at its head, empty, or given up', async () => {
    const nothing = Buffer.alloc(BLOCKS * DIGEST_SIZE);
    await filled();
    const file = await open(path, 'r+');
    await file.write(Buffer.from('x'), 0, 1, 20);
    await file.close();
    assert.ok(nothing.equals(await reopened()));
    await filled();
    await writeFile(path, '');
    assert.ok(nothing.equals(await reopened()));
    await filled();
    await (await openImageDigests(path, image)).discard();
    await assert.rejects(stat(path), { code: 'ENOENT' });
  });
});
