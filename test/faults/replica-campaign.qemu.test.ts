import assert from 'node:assert/strict';
import { test } from 'node:test';
import { replicaCampaign } from './replica-campaign.ts';
import { newSeed } from './replica-primary.ts';

/** A sample of test/soak/points.ts. */
void test('random points read as the primary was, while logs are applied, points retired and undo logs merged', async (t) => {
  const seed = newSeed();
  t.diagnostic(`SEED=${seed}`);
  const MiB = 1024 * 1024;
  const disks = [
    { target: 'vda', size: 8 * MiB + 4608 },
    { target: 'vdb', size: 3 * MiB },
  ];
  const report = await replicaCampaign({ seed, points: 70, policies: 10, disks });
  t.diagnostic(JSON.stringify(report));
  assert.ok(report.compared > 40 && report.retired > 20);
});
