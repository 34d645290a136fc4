import assert from 'node:assert/strict';
import { chmodSync, mkdirSync, mkdtempSync, realpathSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import { firstBarred, mayAs } from './rights.ts';

const directory = realpathSync(mkdtempSync(join(tmpdir(), 'us-rights-')));
after(() => rmSync(directory, { recursive: true, force: true }));

test('this process’s own rights; a path that is not there gives none', async () => {
  const file = join(directory, 'with space');
  writeFileSync(file, '');
  chmodSync(file, 0o600);
  const asks = [
    { path: file, right: 'read' },
    { path: file, right: 'write' },
    { path: file, right: 'pass' },
    { path: join(directory, 'none'), right: 'read' },
  ] as const;
  assert.deepEqual(await mayAs(undefined, asks), [true, true, false, false]);
  assert.deepEqual(await mayAs(undefined, []), []);
});

test('another user’s rights: the first directory in the way is named, and none once it is open', async (context) => {
  if (process.getuid?.() !== 0) return context.diagnostic('only root can ask for another user');
  const nobody = { uid: 65_534, gid: 65_534 };
  const barred = join(directory, 'barred');
  const inside = join(barred, 'inside');
  mkdirSync(inside, { recursive: true });
  chmodSync(directory, 0o755);
  chmodSync(barred, 0o700);
  chmodSync(inside, 0o711);
  const link = join(directory, 'link');
  symlinkSync(inside, link);
  assert.equal(await firstBarred(nobody, inside), barred);
  assert.equal(await firstBarred(nobody, link), barred, 'the way leads where the link does');
  assert.equal(await firstBarred(undefined, inside), undefined);
  chmodSync(barred, 0o711);
  assert.equal(await firstBarred(nobody, inside), undefined);
  assert.deepEqual(await mayAs(nobody, [{ path: inside, right: 'write' }]), [false]);
});
