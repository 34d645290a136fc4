/**
 * Two hosts may each be about to start the same VM: one after a restart, the other by a failover. Each first shows what it
 * is about to do (here: this mark; there: the state `RecoveryInProgress`), and only then asks the other. So whoever asks
 * second sees the first, and with contact two never start.
 */
import { Failure } from '../model/failure.ts';
import { judgeStart } from '../model/role.ts';
import type { Store } from '../store/store.ts';
import type { Plan } from '../journal/plan.ts';
import { stepDown } from './fence.ts';
import { mayRun } from './lease.ts';
import { recordOf, type FailoverServices } from './services.ts';

const marks = new WeakMap<Store, Map<string, number>>();

/** Whether this host may be about to start the VM of a relationship: for the other side as good as running. */
export function isStarting({ store }: Pick<FailoverServices, 'store'>, id: string): boolean {
  return (marks.get(store)?.get(id) ?? 0) > 0;
}

/** Shows that the VM may be about to start, while `work` asks the other side and decides. */
export async function markStarting<T>(
  { store }: Pick<FailoverServices, 'store'>,
  id: string,
  work: () => Promise<T>,
): Promise<T> {
  const counts = marks.get(store) ?? new Map<string, number>();
  marks.set(store, counts);
  counts.set(id, (counts.get(id) ?? 0) + 1);
  try {
    return await work();
  } finally {
    counts.set(id, counts.get(id)! - 1);
  }
}

/**
 * Whether a plan of this host may still start the VM, in the end or when it is taken back: for the other side as good as running.
 * Otherwise a failover there that hears that the VM is off, and this plan, which hears nothing any more, would each start it.
 */
export function mayStart({ kind, args }: Plan): boolean {
  if (kind === 'planned-failover') return args['wasRunning'] === true;
  return kind === 'unplanned-failover' || (kind === 'take-over' && args['start'] === true);
}

/**
 * Starts a VM again that this host had shut down, unless the other side has taken over meanwhile: then this one steps down at once, so
 * that what it has learnt isn't forgotten by the next try. A silent peer doesn't keep it from that: the guest ran here a moment ago.
 * Failure `busy` while a failover is under way there.
 * @param told the other side has refused our epoch, or was seen failing over: then its silence does keep it.
 */
export async function startAgain(services: FailoverServices, id: string, told: boolean): Promise<void> {
  await markStarting(services, id, async () => {
    const { vmId, vmName, peer } = recordOf(services, id);
    const status = await services
      .peer(peer)
      .status(id)
      .catch(() => undefined);
    const { leaseSeconds = 0 } = recordOf(services, id);
    const policy = told || leaseSeconds > 0 ? 'never-alone' : 'when-known';
    const judged = judgeStart(recordOf(services, id), status, { policy, waitedMs: 0, patienceMs: 0 });
    if (judged === 'wait' && status !== undefined) {
      throw new Failure('busy', `a failover of ${vmName} has begun on ${peer}`);
    }
    if (judged === 'wait') throw new Failure('busy', `${vmName} is not started again before ${peer} was asked`);
    if (judged === 'step-down') await stepDown(services, id);
    if (judged !== 'start' && judged !== 'start-unknowing') return;
    if (!(await mayRun(services, recordOf(services, id)))) throw new Failure('busy', `${peer} grants no lease`);
    await services.hypervisor.start(vmId);
  });
}
