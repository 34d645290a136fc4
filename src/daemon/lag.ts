/** How old the latest proven state of a relationship is. */
import { lagOf, provenNow } from '../model/lag.ts';
import type { RelationshipRecord } from '../store/store.ts';
import type { DaemonServices } from './services.ts';

type LagServices = Pick<DaemonServices, 'now' | 'boot' | 'replicas' | 'primaries' | 'arrivals' | 'peerClocks'>;

/** ms, and the instant (the primary's clock) that it counts from; null before the first recovery point. */
export function lagFrom(
  services: LagServices,
  record: RelationshipRecord,
): { readonly instant: number; readonly lagMs: number } | null {
  const { now, boot } = services;
  if (record.role === 'primary') {
    const instant = record.protectedUntil;
    if (instant === null) return null;
    const { proven } = services.primaries.loop(record.id).replication;
    return { instant, lagMs: lagOf({ instant, proven, offset: undefined, now: now(), boot: boot() }) };
  }
  const instant = services.replicas.find(record.id)?.points()[0]?.confirmed;
  if (instant === undefined) return null;
  const facts = { instant, offset: services.peerClocks.offset(record.peer), now: now(), boot: boot() };
  // From its arrival on, this host's own clock counts.
  const known = services.arrivals.get(record.id);
  const proven = known?.instant === instant ? known : provenNow(facts);
  services.arrivals.set(record.id, proven);
  return { instant, lagMs: lagOf({ ...facts, proven }) };
}
