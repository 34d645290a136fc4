import assert from 'node:assert/strict';
import { test } from 'node:test';
import type { CopyProgress } from '../store/store.ts';
import { behindDisk, behindEnds } from './copy-progress.ts';

const copy: CopyProgress = { mode: 'empty', since: null, disk: 0, offset: 100, blocksCompared: 0, blocksDifferent: 0 };
const vda = { target: 'vda', size: 200 };
const vdb = { target: 'vdb', size: 200 };
const vdc = { target: 'vdc', size: 200 };
const place = ({ disk, offset }: CopyProgress) => [disk, offset];

void test('behind a disk comes the next that is there; behind one that is copied alone, none', () => {
  assert.deepEqual(place(behindDisk(copy, [vda, vdb])), [1, 0]);
  assert.deepEqual(place(behindDisk(copy, [vda, { ...vdb, gone: true }, vdc])), [2, 0]);
  assert.deepEqual(place(behindDisk(copy, [vda, { ...vdb, gone: true }])), [2, 0]);
  assert.deepEqual(place(behindDisk({ ...copy, alone: true }, [vda, vdb, vdc])), [3, 0]);
});

void test('a copy goes on where it was, but for a disk that is shorter now, or gone', () => {
  assert.deepEqual(place(behindEnds(copy, [vda, vdb])), [0, 100]);
  assert.deepEqual(place(behindEnds(copy, [{ ...vda, size: 100 }, vdb])), [1, 0]);
  assert.deepEqual(place(behindEnds(copy, [{ ...vda, gone: true }, vdb])), [1, 0]);
  assert.deepEqual(place(behindEnds({ ...copy, disk: 2, offset: 0 }, [vda, vdb])), [2, 0]);
});
