/** Two hundred bits flipped: at rest on either side, and on the way. */
import { corruptionCampaign, KINDS } from '../faults/corruption-campaign.ts';
import { seeded } from '../faults/replica-primary.ts';
import type { Campaign } from './campaign.ts';

const INJECTIONS = 200;

export const corruptions: Campaign = {
  name: 'corruptions',
  about: `${INJECTIONS} bits flipped, in everything that lies at rest on either side, and on the way`,
  async round({ seed, progress }) {
    const kinds = Array.from({ length: INJECTIONS }, (_, i) => KINDS[i % KINDS.length]!);
    const { injected, mended, refused, compared, turnedDown } = await corruptionCampaign({
      random: seeded(seed),
      kinds,
      progress,
    });
    return `${injected} bits flipped, all found: ${mended} mended, ${refused} refused; ${compared} points compared, ${turnedDown} turned down`;
  },
};
