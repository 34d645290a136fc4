/**
 * A sample of `npm run test:soak -- power-loss`: what was not synced is lost; what was promised is there. And a sync that a
 * promise rests on is missed where it is left out.
 */
import assert from 'node:assert/strict';
import { after, before, test } from 'node:test';
import { loseJournal, loseStore } from './power-loss/host-losses.ts';
import { loseReplica, replicaLife, RESTS_ON, type ReplicaLife } from './power-loss/replica-losses.ts';
import { newSeed } from './replica-primary.ts';

const LOGS = 10;
/** Enough to come upon a promise that is broken; it ends at the first. */
const UNTIL_FOUND = 60;

const seed = newSeed();
let life: ReplicaLife;
before(async () => {
  life = await replicaLife(seed, LOGS);
});
after(() => life?.clear());

void test('a power loss at any moment of a replica’s life takes no acknowledged log and changes no point', async (t) => {
  t.diagnostic(`SEED=${seed}`);
  await loseReplica(life, { seed, losses: 10 });
});

for (const what of ['what a received log holds', 'what the record holds']) {
  void test(`without the sync of ${what} something is lost`, async () => {
    await assert.rejects(
      loseReplica(life, { seed, losses: UNTIL_FOUND, ignored: RESTS_ON[what]! }),
      /power lost after/,
    );
  });
}

void test('a power loss in the middle of a plan leaves nothing done that no plan knows of', async () => {
  await loseJournal({ seed, losses: 8 });
  const unsynced = { seed, losses: UNTIL_FOUND, ignored: (path: string) => path.endsWith('/journal') };
  await assert.rejects(loseJournal(unsynced), /power lost after/);
});

void test('a power loss takes nothing that the store has taken', async () => {
  await loseStore({ seed, losses: 12 });
  const unsynced = { seed, losses: UNTIL_FOUND, ignored: (path: string) => path.endsWith('-wal') };
  await assert.rejects(loseStore(unsynced), /power lost after/);
});
