/**
 * What the primary believes that the replica has, in the explored world: the real `KnownBlocks` over a file that is two blocks large.
 * A digest says which number a block holds.
 */
import { KnownBlocks } from '../../src/primary/known-blocks.ts';
import { silentLog, type Log } from '../../src/lib/log.ts';
import { DIGEST_SIZE } from '../../src/lib/digest.ts';
import { Dead, Paused, Pruned } from './run.ts';
import { onStage } from './stage.ts';
import type { HostName, World } from './world.ts';
import { ID } from './world.ts';

/** What it gives up is of a daemon that is dead: nothing else goes wrong with these files here. */
const LOG = {
  ...silentLog(),
  warn: ({ err }: { err: Error }) => {
    const { cause } = err;
    if (!(cause instanceof Dead || cause instanceof Paused || cause instanceof Pruned)) {
      onStage().run.violate(`what is known of the replica is given up: ${err.message}`);
    }
  },
} as unknown as Log;

/** Every block that changed is sent. */
const NOTHING_KNOWN = {
  at: async () => [],
  expect: async () => undefined,
  instead: async () => undefined,
  reached: async () => undefined,
  note: async () => undefined,
  close: async () => undefined,
  forget: async () => undefined,
} as unknown as KnownBlocks;

export function knownOf(world: World, host: HostName): KnownBlocks {
  return world.budget.known === 0 ? NOTHING_KNOWN : new KnownBlocks(`/${host}/digests/${ID}`, LOG);
}

/** No digest of a block is all zeros: that says that nothing is known. */
export function digestOfValue(value: number): Buffer {
  const digest = Buffer.alloc(DIGEST_SIZE);
  digest.writeUInt32BE(value + 1);
  return digest;
}

export function knownValue(digest: Buffer): number | null {
  const written = digest.readUInt32BE();
  return written === 0 ? null : written - 1;
}
