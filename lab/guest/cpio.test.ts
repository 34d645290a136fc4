import assert from 'node:assert/strict';
import { test } from 'node:test';
import { type Entry, cpio } from './cpio.ts';

/** Reads the format as its description says, independently of the writer: header of 110 bytes, parts aligned to 4. */
function read(archive: Buffer): { path: string; mode: number; content: string }[] {
  const found: { path: string; mode: number; content: string }[] = [];
  const aligned = (at: number) => Math.ceil(at / 4) * 4;
  for (let at = 0; ;) {
    assert.equal(archive.toString('latin1', at, at + 6), '070701');
    const field = (index: number) =>
      Number.parseInt(archive.toString('latin1', at + 6 + 8 * index, at + 14 + 8 * index), 16);
    const [mode, size, nameSize] = [field(1), field(6), field(11)];
    const path = archive.toString('utf8', at + 110, at + 110 + nameSize - 1);
    const start = aligned(at + 110 + nameSize);
    if (path === 'TRAILER!!!') return found;
    found.push({ path, mode, content: archive.toString('utf8', start, start + size) });
    at = aligned(start + size);
  }
}

test('directories, files and links of any length of name and content', () => {
  const entries: Entry[] = [{ path: 'bin', kind: 'directory' }];
  for (let length = 0; length < 9; length++) {
    entries.push({
      path: `bin/${'n'.repeat(length + 1)}`,
      kind: 'file',
      content: Buffer.from('c'.repeat(length)),
      mode: 0o755,
    });
  }
  entries.push({ path: 'bin/link', kind: 'link', target: 'n' });
  const back = read(cpio(entries));
  assert.deepEqual(
    back.map(({ path }) => path),
    entries.map(({ path }) => path),
  );
  assert.deepEqual([back[0]!.mode, back[1]!.mode, back.at(-1)!.mode], [0o040755, 0o100755, 0o120755]);
  assert.deepEqual(
    back.slice(1, -1).map(({ content }) => content.length),
    [0, 1, 2, 3, 4, 5, 6, 7, 8],
  );
  assert.equal(back.at(-1)!.content, 'n');
});
