import assert from 'node:assert/strict';
import { test } from 'node:test';

/** Tests that build on each other: after one that fails the others fail at once, and say so. */
export function stages(): (name: string, work: () => Promise<void>) => void {
  let failed: string | undefined;
  return (name, work) => {
    test(name, async () => {
      assert.equal(failed, undefined, 'a stage before this one failed');
      failed = name;
      await work();
      failed = undefined;
    });
  };
}
