/** A slice of the campaign of `npm run test:soak -- corruptions`: one of each kind. */
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { corruptionCampaign, KINDS } from './corruption-campaign.ts';
import { newSeed, seeded } from './replica-primary.ts';

test('every bit that is flipped at rest or on the way is found, and mended or refused; none is used unsaid', async (t) => {
  const seed = newSeed();
  t.diagnostic(`SEED=${seed}`);
  const progress = (text: string): void => t.diagnostic(text);
  const report = await corruptionCampaign({ random: seeded(seed), kinds: KINDS, progress });
  assert.ok(report.injected > 2 * KINDS.length);
  assert.equal(report.mended + report.refused, report.injected);
  assert.ok(report.refused >= 2 && report.turnedDown > 0 && report.compared > KINDS.length);
});
