/** Bits flipped: at rest on either side, and on the way; two hundred and more in eight times all kinds. */
import { corruptionCampaign, KINDS } from '../faults/corruption-campaign.ts';
import { seeded } from '../faults/replica-primary.ts';
import type { Campaign } from './campaign.ts';

const TIMES = 8;

export const corruptions: Campaign = {
  name: 'corruptions',
  about: '200 bits flipped, in everything that lies at rest on either side, and on the way',
  async round({ seed, progress }) {
    const kinds = Array.from({ length: TIMES }, () => KINDS).flat();
    const { injected, mended, refused, compared, turnedDown } = await corruptionCampaign({
      random: seeded(seed),
      kinds,
      progress,
    });
    return `${injected} bits flipped, all found: ${mended} mended, ${refused} refused; ${compared} points compared, ${turnedDown} turned down`;
  },
};
