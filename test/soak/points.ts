/** A thousand recovery points under a hundred retention policies, compared with an oracle while logs are applied. */
import { replicaCampaign } from '../faults/replica-campaign.ts';
import type { Campaign } from './campaign.ts';

const POINTS = 1000;
const POLICIES = 100;
const MIB = 1024 * 1024;
const DISKS = [
  { target: 'vda', size: 64 * MIB },
  { target: 'vdb', size: 64 * MIB + 4608 },
];

export const points: Campaign = {
  name: 'points',
  about: `${POINTS} random points, ${POLICIES} retention policies, read through views while logs are applied`,
  async round({ seed, progress }) {
    const report = await replicaCampaign({ seed, points: POINTS, policies: POLICIES, disks: DISKS, progress });
    const { compared, duringApply, retired, merged, heldViews } = report;
    return `${compared} points compared (${duringApply} while applying), ${retired} retired, ${merged} merged, ${heldViews} held views`;
  },
};
