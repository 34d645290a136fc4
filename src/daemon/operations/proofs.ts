/** What proves that a replica can be relied on: comparing both sides, and checking what lies at rest. */
import type { Operations } from '../../api/contract.ts';
import { update } from '../../failover/services.ts';
import { Failure } from '../../model/failure.ts';
import { NOT_VERIFIED } from '../../model/verification.ts';
import { findPrimary, findRelationship } from '../relationships.ts';
import type { DaemonServices } from '../services.ts';
import { viewOf } from './replications.ts';

type ProofOperations = Pick<Operations, 'replicationVerify' | 'replicationScrub'>;

export function proofOperations(services: DaemonServices): ProofOperations {
  return {
    replicationVerify: async ({ ref }) => {
      const { id, vmName, suspended, protectedUntil, verification = NOT_VERIFIED } = findPrimary(services, ref);
      if (suspended)
        throw new Failure('wrong-state', `replication of ${vmName} is suspended`, { hint: 'Resume it first.' });
      if (protectedUntil === null) {
        throw new Failure(
          'wrong-state',
          `the initial copy of ${vmName} is not complete: there is nothing to compare with yet`,
        );
      }
      const pass = { began: services.now(), disk: 0, offset: 0, leftOut: 0 };
      // One that was asked for before goes on where it is.
      const asked = verification.asked && verification.pass !== null;
      if (!asked) update(services, id, { verification: { ...verification, asked: true, pass } });
      services.primaries.loop(id).wake();
      return await viewOf(services, id);
    },

    replicationScrub: async ({ ref }) => {
      const { id, role, vmName, peer } = findRelationship(services, ref);
      if (role !== 'replica') throw new Failure('wrong-role', `the replica of ${vmName} lies on ${peer}; ask there`);
      const replica = services.replicas.get(id);
      if (replica.frozen) throw new Failure('wrong-state', `the disks of ${vmName} are released for a failover`);
      await services.scrubbing.ask(replica);
      return await viewOf(services, id);
    },
  };
}
