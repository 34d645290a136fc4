/** Whether a host says of a relationship that all is well, and what it says. */
import type { Replication } from './host.ts';

/** Cycles that were missed while something was broken were missed: that is no sign of sickness. */
export function isWell(view: Replication, role: Replication['role'], since: number): boolean {
  const reasons = view.healthReasons.filter((reason) => !reason.endsWith('cycles were missed'));
  return (
    view.role === role &&
    view.state === 'Replicating' &&
    view.failure === null &&
    view.copy === null &&
    view.action === null &&
    reasons.length === 0 &&
    (view.protectedUntil ?? 0) >= since
  );
}

export function tell(...views: readonly (Replication | undefined)[]): string {
  const words = views.map((view) => {
    if (view === undefined) return 'unknown there';
    const { role, state, vmState, healthReasons, failure, action, inFlight, epoch } = view;
    return JSON.stringify({ role, state, vmState, epoch, healthReasons, failure: failure?.message, action, inFlight });
  });
  return words.join(' / ');
}
