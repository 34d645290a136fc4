import type { Operations } from '../../api/contract.ts';
import { Failure } from '../../model/failure.ts';
import { checkCancel } from '../../failover/cancel.ts';
import { checkComplete } from '../../failover/complete.ts';
import { checkExport } from '../../failover/export.ts';
import { checkPlanned } from '../../failover/planned.ts';
import { checkReverse } from '../../failover/reverse.ts';
import { checkTestStart, checkTestStop } from '../../failover/test.ts';
import { checkUnplanned } from '../../failover/unplanned.ts';
import type { PlanArgs } from '../../journal/plan.ts';
import { findRelationship } from '../relationships.ts';
import type { DaemonServices } from '../services.ts';
import { actionView, pointViews } from '../views.ts';

type FailoverOperations = Pick<
  Operations,
  | 'pointList'
  | 'pointExport'
  | 'testFailoverStart'
  | 'testFailoverStop'
  | 'unplannedFailover'
  | 'cancelFailover'
  | 'completeFailover'
  | 'plannedFailover'
  | 'reverseReplication'
>;

export function failoverOperations(services: DaemonServices): FailoverOperations {
  const { actions } = services;
  const begin = async (kind: string, id: string, args: PlanArgs) =>
    actionView(services, await actions.begin(kind, id, args));
  const find = (ref: string) => findRelationship(services, ref).id;
  return {
    pointList: async ({ ref }) => {
      const { id, role, vmName, peer } = findRelationship(services, ref);
      const replica = services.replicas.find(id);
      if (replica !== undefined) return pointViews(replica);
      if (role === 'replica') return [];
      throw new Failure('wrong-role', `recovery points of ${vmName} are kept on ${peer}; ask there`);
    },

    pointExport: async ({ ref, point, disk, file, format, damaged = false }) => {
      const id = find(ref);
      const request = { sequence: point, target: disk, file, format, damaged };
      return await begin('export-point', id, await checkExport(services, id, request));
    },

    testFailoverStart: async ({ ref, point, damaged = false }) => {
      const id = find(ref);
      return await begin('test-failover-start', id, checkTestStart(services, id, point, damaged));
    },

    testFailoverStop: async ({ ref }) => {
      const id = find(ref);
      return await begin('test-failover-stop', id, checkTestStop(services, id));
    },

    unplannedFailover: async ({ ref, point, force, damaged = false }) => {
      const id = find(ref);
      const request = { force, damaged, ...(point === undefined ? {} : { point }) };
      return await begin('unplanned-failover', id, await checkUnplanned(services, id, request));
    },

    cancelFailover: async ({ ref }) => {
      const id = find(ref);
      // On the primary: a planned failover that waits before an obstacle is taken back.
      if (actions.journal.holder(id)?.kind === 'planned-failover')
        return actionView(services, await actions.giveUp(id));
      checkCancel(services, id);
      return await begin('cancel-failover', id, {});
    },

    completeFailover: async ({ ref }) => {
      const id = find(ref);
      checkComplete(services, id);
      return await begin('complete-failover', id, {});
    },

    plannedFailover: async ({ ref, start, shutdownTimeoutSeconds }) => {
      const id = find(ref);
      return await begin('planned-failover', id, await checkPlanned(services, id, { start, shutdownTimeoutSeconds }));
    },

    reverseReplication: async ({ ref }) => {
      const id = find(ref);
      return await begin('reverse-replication', id, await checkReverse(services, id));
    },
  };
}
