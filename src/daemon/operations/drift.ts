import type { Operations } from '../../api/contract.ts';
import { DEFAULT_DEFINITION_POLICY, definitionChanges } from '../../model/definition-changes.ts';
import { Failure } from '../../model/failure.ts';
import { presentDisks } from '../../model/shape.ts';
import { findRelationship } from '../relationships.ts';
import type { DaemonServices } from '../services.ts';

/** How far a Replica VM's definition is from its primary's, looked at now. */
export function driftOperations(services: DaemonServices): Pick<Operations, 'replicationDrift'> {
  const { hypervisor, replicas, config } = services;
  return {
    replicationDrift: async ({ ref }) => {
      const record = findRelationship(services, ref);
      const { id, vmId, vmName, role, peer, disks, epoch } = record;
      if (role !== 'replica') throw new Failure('wrong-role', `the Replica VM of ${vmName} is on ${peer}; ask there`);
      const own = await hypervisor.exportDefinition(vmId);
      const taken = record.definitionTaken?.epoch === epoch ? record.definitionTaken : undefined;
      const { received } = replicas.get(id).record;
      const definition = received?.definition ?? taken?.definition ?? own;
      const targets = presentDisks(disks).map(({ target }) => target);
      const previous = taken === undefined ? {} : { previous: taken.definition };
      const followed = await hypervisor.adaptDefinition({
        definition,
        own,
        targets,
        networks: config.networks,
        ...previous,
      });
      const changes = definitionChanges(await hypervisor.factsOf(followed), await hypervisor.factsOf(own));
      return {
        vmName,
        policy: record.definitionPolicy ?? DEFAULT_DEFINITION_POLICY,
        since: received?.since ?? null,
        changes: changes.map(({ what, before, after }) => ({ what, primary: before, here: after })),
        lacking: [...(await hypervisor.lackingFor(own))],
      };
    },
  };
}
