/** The VM's definition as it is now: its administrator changes it while replication goes on, and the Replica server is told. */
import { createHash } from 'node:crypto';
import { orAborted } from '../lib/abortable.ts';
import type { Hypervisor } from '../hypervisor/hypervisor.ts';
import { changesText, definitionChanges } from '../model/definition-changes.ts';
import { asFailure } from '../model/failure.ts';
import type { RelationshipRecord } from '../store/store.ts';
import { prepareOf } from './prepare-of.ts';
import type { Replication } from './replication.ts';

/** So often it is looked at, at most, ms. */
const EVERY_MS = 30_000;

/** What a record remembers of a definition that the Replica server knows, of the epoch in which it was told. */
export async function toldOf(
  hypervisor: Pick<Hypervisor, 'factsOf'>,
  { definition, epoch }: Pick<RelationshipRecord, 'definition' | 'epoch'>,
): Promise<NonNullable<RelationshipRecord['definitionTold']>> {
  const facts = Object.entries(await hypervisor.factsOf(definition)).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return { digest: createHash('sha256').update(JSON.stringify(facts)).digest('hex'), epoch };
}

/**
 * Takes note of what has become of the definition, and tells the Replica server. That this fails never keeps the VM's data back: it is said,
 * and done again.
 */
export async function followDefinition(replication: Replication, signal: AbortSignal): Promise<void> {
  const { steady, log } = replication.services;
  if (!replication.urgent && steady() < replication.definitionDue) return;
  replication.definitionDue = steady() + EVERY_MS;
  try {
    const isNew = await notice(replication);
    // Before a handover there is no time for what is known there already.
    if (isNew || !replication.urgent) await tell(replication, signal);
  } catch (error) {
    signal.throwIfAborted();
    const failure = asFailure(error);
    log.warn(
      { relationship: replication.id, code: failure.code },
      `the definition does not follow: ${failure.message}`,
    );
    if (failure.retry !== 'never' || replication.definitionFailure === failure.message) return;
    replication.definitionFailure = failure.message;
    const { vmName, peer } = replication.record;
    const text = `the definition of ${vmName} could not be told to ${peer}: ${failure.message}`;
    replication.services.event('warning', 'definition-not-told', text);
  }
}

/** @returns whether it says something else than before. */
async function notice(replication: Replication): Promise<boolean> {
  const { hypervisor, event } = replication.services;
  const before = replication.record;
  // What runs of a VM whose definition was removed is not how it is meant to start.
  if ((await hypervisor.vmStatus(before.vmId)).transient === true) return false;
  const definition = await hypervisor.exportDefinition(before.vmId);
  if (definition === before.definition) return false;
  replication.update({ definition });
  const changes = definitionChanges(await hypervisor.factsOf(before.definition), await hypervisor.factsOf(definition));
  if (changes.length === 0) return false;
  event('info', 'definition-changed', `the definition of ${before.vmName} has changed: ${changesText(changes)}`);
  return true;
}

async function tell(replication: Replication, signal: AbortSignal): Promise<void> {
  const { hypervisor, endpoint } = replication.services;
  const { record } = replication;
  const told = await toldOf(hypervisor, record);
  if (record.definitionTold?.digest === told.digest && record.definitionTold.epoch === told.epoch) return;
  await orAborted(endpoint.prepare({ ...prepareOf(record), base: 'continue' }), signal);
  replication.definitionFailure = undefined;
  replication.update({ definitionTold: told });
}
