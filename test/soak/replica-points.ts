/**
 * A thousand recovery points of large disks under a hundred retention policies, each compared with an oracle while logs are
 * applied: test/faults/replica-campaign.ts at full length.
 *   node test/soak/replica-points.ts [POINTS [POLICIES [MIB]]]      SEED=… repeats a run
 */
import { replicaCampaign } from '../faults/replica-campaign.ts';
import { newSeed } from '../faults/replica-primary.ts';

const [points = 1000, policies = 100, mib = 64] = process.argv.slice(2).map(Number);
const seed = newSeed();
const disks = [
  { target: 'vda', size: mib * 1024 * 1024 },
  { target: 'vdb', size: (mib >> 2) * 1024 * 1024 + 4608 },
];
console.log(
  `SEED=${seed}: ${points} points, ${policies} policies, disks of ${disks.map(({ size }) => size).join(' and ')} bytes`,
);
const started = performance.now();
const report = await replicaCampaign({ seed, points, policies, disks, progress: (text) => console.log(text) });
console.log(`${JSON.stringify(report)} in ${((performance.now() - started) / 1000).toFixed(0)} s: no byte was wrong`);
