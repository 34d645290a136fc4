/** Test failovers over a restart of the daemon: they go on, or are ended. */
import { asFailure } from '../model/failure.ts';
import type { DaemonServices } from './services.ts';

/** To be called before plans are taken up. What a plan holds is that plan's to end; its VM may be waiting for its disks all the same. */
export async function resumeTests({ actions, event, store, testViews }: DaemonServices): Promise<void> {
  for (const { id, test } of store.relationships()) {
    if (test === null) continue;
    const failure = await testViews.resume(id, test).then(() => undefined, asFailure);
    if (failure === undefined || actions.journal.holder(id) !== undefined) continue;
    event(id, 'warning', 'test-failover-cut', `the daemon was restarted, the test ends: ${failure.message}`);
    await actions.begin('test-failover-stop', id, { testVmId: test.vmId });
  }
}
