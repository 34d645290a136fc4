/** Power losses at random moments in the life of a replica, of a journal and of the store. */
import assert from 'node:assert/strict';
import { loseJournal, loseStore } from '../faults/power-loss/host-losses.ts';
import { loseReplica, replicaLife, RESTS_ON } from '../faults/power-loss/replica-losses.ts';
import type { Campaign } from './campaign.ts';

const LOGS = 24;
const LOSSES = 200;
const HOST_LOSSES = 100;

export const powerLoss: Campaign = {
  name: 'power-loss',
  about: 'what was not synced is lost, in whole and in part; what was promised is there',
  async round({ seed, progress }) {
    const life = await replicaLife(seed, LOGS);
    try {
      progress(`a life of ${LOGS} logs, ${life.operations.length} operations: ${LOSSES} losses`);
      await loseReplica(life, { seed, losses: LOSSES });
      for (const [what, ignored] of Object.entries(RESTS_ON)) {
        progress(`without the sync of ${what}`);
        await assert.rejects(
          loseReplica(life, { seed, losses: LOSSES, ignored }),
          /power lost after/,
          `${what}: not missed`,
        );
      }
    } finally {
      await life.clear();
    }
    progress(`a journal and a store: ${HOST_LOSSES} losses each`);
    await loseJournal({ seed, losses: HOST_LOSSES });
    await loseStore({ seed, losses: HOST_LOSSES });
    return `${LOSSES} losses of a replica, ${HOST_LOSSES} of a journal and of a store each; ${Object.keys(RESTS_ON).length} left-out syncs missed`;
  },
};
