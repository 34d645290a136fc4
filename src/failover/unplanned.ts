/**
 * Unplanned failover, on the Replica server: the primary is lost, the VM goes on here from a recovery point. It runs on
 * overlays over the replica's disks, so that it can be cancelled, or begun again from another point, until it is completed.
 */
import { rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';
import { makeDirectory } from '../lib/atomic-file.ts';
import { asFailure, Failure } from '../model/failure.ts';
import type { RecoveryPoint } from '../model/relationship.ts';
import type { PlanDefinition } from '../journal/runner.ts';
import type { Plan } from '../journal/plan.ts';
import type { ReplicaStatus } from '../protocol/endpoint.ts';
import type { RelationshipRecord } from '../store/store.ts';
import { defineLocked, defineRunnable } from './definition.ts';
import { failoverOverlays, move, recordOf, replicaOf, update, type FailoverServices } from './services.ts';
import { beginFailover, requireEpoch } from './fence.ts';
import { outlastLease } from './lease.ts';

const argsSchema = z.object({
  point: z.number().nullable(),
  epoch: z.number(),
  force: z.boolean(),
  /** A person takes the point as it is, damaged. */
  damaged: z.boolean().default(false),
  /** The old primary answered when it was asked first: that it doesn't run the VM is what the person relies on. */
  answered: z.boolean().default(false),
});

export interface UnplannedRequest {
  /** Sequence of the recovery point; undefined = the latest. */
  readonly point?: number;
  /** Go on although the primary answers that the VM runs there. */
  readonly force: boolean;
  /** Take the point although it is known to hold damaged bytes. */
  readonly damaged?: boolean;
}

const ALLOWED = new Set([
  'Replicating',
  'InitialReplicationInProgress',
  'Resynchronizing',
  'CatchingUp',
  'Error',
  'Suspended',
]);

/** Checks that it may begin; gives the plan's arguments. Failures: `wrong-role`, `wrong-state`, `vm-running`, `not-found`, `point-damaged`. */
export async function checkUnplanned(services: FailoverServices, id: string, request: UnplannedRequest) {
  const record = recordOf(services, id);
  if (record.role !== 'replica') {
    throw new Failure(
      'wrong-role',
      `${record.vmName} runs on this host; an unplanned failover begins on its Replica server`,
    );
  }
  if (!ALLOWED.has(record.state)) throw new Failure('wrong-state', `${record.vmName} is in state ${record.state}`);
  if (record.test !== null) {
    throw new Failure('wrong-state', `a test failover of ${record.vmName} is running`, {
      hint: `End it first: understudy failover test stop ${record.vmName}`,
    });
  }
  const { point = null, force, damaged = false } = request;
  const { sequence } = choosePoint(services, record, point);
  replicaOf(services, id).requireSound(sequence, damaged);
  const answered = !force && (await refuseWhileRunning(services, record));
  return { point, epoch: record.epoch + 1, force, damaged, answered };
}

/**
 * UFO-02: with contact, two running copies are refused (`vm-running`). Without contact it is the person's decision.
 * @returns whether the primary answered.
 */
async function refuseWhileRunning(services: FailoverServices, record: RelationshipRecord): Promise<boolean> {
  let running: boolean;
  try {
    const status = await answerOf(services, record);
    running = status.role === 'primary' && status.vmRunning;
  } catch (error) {
    const { code } = asFailure(error);
    if (code === 'unreachable' || code === 'timeout' || code === 'interrupted') return false;
    if (code === 'not-found') return true;
    throw error;
  }
  if (!running) return true;
  throw new Failure('vm-running', `${record.peer} answers that ${record.vmName} is running there`, {
    hint: `Run a planned failover on ${record.peer}, which loses nothing; or add --force, then ${record.peer} pauses its copy at the next contact.`,
  });
}

/** A host that is gone doesn't refuse, it is silent: two tries of TCP fit into this time. */
const GUARD_MS = 3000;

async function answerOf(services: FailoverServices, record: RelationshipRecord): Promise<ReplicaStatus> {
  const silence = Promise.withResolvers<never>();
  const text = `${record.peer} did not answer in ${GUARD_MS} ms`;
  const timer = setTimeout(() => silence.reject(new Failure('timeout', text)), GUARD_MS);
  try {
    return await Promise.race([services.peer(record.peer).status(record.id), silence.promise]);
  } finally {
    clearTimeout(timer);
  }
}

function choosePoint(services: FailoverServices, record: RelationshipRecord, sequence: number | null): RecoveryPoint {
  const points = replicaOf(services, record.id).points();
  const point = sequence === null ? points[0] : points.find((candidate) => candidate.sequence === sequence);
  if (point !== undefined) return point;
  if (sequence !== null) throw new Failure('not-found', `${record.vmName} has no recovery point ${sequence}`);
  throw new Failure('wrong-state', `${record.vmName} has no recovery point yet: its initial copy is not complete`);
}

const args = (plan: Plan) => argsSchema.parse(plan.args);

export const unplannedFailover: PlanDefinition<FailoverServices> = {
  kind: 'unplanned-failover',
  steps: [
    {
      // From here on whatever the old primary still sends is refused, and at its next contact it learns why.
      name: 'fence the old primary',
      run: async (services, plan) => {
        await beginFailover(services, plan.relationship, args(plan).epoch);
      },
      undo: async (services, plan) => {
        move(services, plan.relationship, 'failover-undone');
      },
    },
    {
      // Asked before, but it may have been about to start the VM. Now it sees that a failover is under way, and waits.
      name: 'ask the old primary once more',
      run: async (services, plan) => {
        const { force, answered } = args(plan);
        if (force) return;
        const record = recordOf(services, plan.relationship);
        if ((await refuseWhileRunning(services, record)) || !answered) return;
        // It may have started the VM since. To go on without contact is a decision that nobody has taken yet.
        throw new Failure('unreachable', `${record.peer} answered when the failover began, and is silent now`, {
          hint: `Begin again: as long as ${record.peer} is silent, that is a failover without contact.`,
        });
      },
    },
    {
      name: 'apply what was received',
      run: async (services, plan) => {
        await replicaOf(services, plan.relationship).drained();
      },
    },
    {
      name: 'release disks',
      run: (services, plan) => replicaOf(services, plan.relationship).freeze(),
      undo: async (services, plan) => replicaOf(services, plan.relationship).thaw(),
    },
    {
      name: 'prepare disks',
      run: async (services, plan) => {
        const record = recordOf(services, plan.relationship);
        const point = choosePoint(services, record, args(plan).point);
        const replica = replicaOf(services, record.id);
        const disks = replica.disksAt(point.sequence);
        await removeOverlays(failoverOverlays(services, record)); // it may begin again from a point with other disks
        const overlays = failoverOverlays(services, { ...record, disks });
        await removeOverlays(overlays);
        for (const path of overlays.values()) await makeDirectory(dirname(path), 0o711);
        await replica.materialise(point.sequence, overlays, args(plan).damaged);
        const { sequence, instant } = point;
        const position = replica.status().applied;
        update(services, record.id, { position, disks, failover: { sequence, instant, started: services.now() } });
      },
      undo: async (services, plan) => {
        await removeOverlays(failoverOverlays(services, recordOf(services, plan.relationship)));
        update(services, plan.relationship, { failover: null, disks: replicaOf(services, plan.relationship).disks });
      },
    },
    {
      // It was told nothing new since it was fenced. What was received is applied, and disks are prepared, meanwhile.
      name: "wait until the old primary's lease is over",
      run: (services, plan, signal) => outlastLease(services, plan.relationship, signal),
    },
    {
      name: 'define the VM',
      run: async (services, plan) => {
        const record = recordOf(services, plan.relationship);
        await defineRunnable(services, record, failoverOverlays(services, record));
      },
      undo: (services, plan) => defineLocked(services, recordOf(services, plan.relationship)),
    },
    {
      name: 'take the role',
      run: async (services, plan) => {
        requireEpoch(services, plan.relationship, args(plan).epoch);
        await services.replicas.get(plan.relationship).setSuspended(false);
        move(services, plan.relationship, 'failed-over', { failure: null, suspended: false });
      },
      undo: async (services, plan) => {
        move(services, plan.relationship, 'role-returned');
      },
    },
    {
      name: 'start the VM',
      run: async (services, plan) => {
        const { vmId, vmName, failover } = recordOf(services, plan.relationship);
        await services.hypervisor.start(vmId);
        const text = `${vmName} runs here from recovery point ${failover?.sequence}`;
        services.event(plan.relationship, 'warning', 'failed-over', text);
      },
      undo: async (services, plan) => {
        await services.hypervisor.destroy(recordOf(services, plan.relationship).vmId);
      },
    },
  ],
};

export async function removeOverlays(overlays: ReadonlyMap<string, string>): Promise<void> {
  for (const path of overlays.values()) await rm(path, { force: true });
}
