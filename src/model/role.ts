/**
 * Who may run a VM, as far as two hosts can know: pure decisions on what one knows of itself and hears from the other. A
 * person's failover at the replica raises the epoch; nothing else does. See SPEC.md.
 */
import type { ReplicationState, Role } from './relationship.ts';

/** What one side says of a relationship, or knows of itself. */
export interface RoleClaim {
  readonly role: Role;
  readonly state: ReplicationState;
  readonly epoch: number;
}

/**
 * What a primary makes of its peer's word.
 * - `lost`: the peer took the role over: step down;
 * - `wait`: the peer is not ready to be the replica yet, or is about to take the role over: then its epoch is raised already,
 *   and to adopt that would make two holders of one epoch, neither of whom steps down;
 * - `adopt`: the role is ours, with the peer's higher epoch (a failover there was cancelled, or taken back);
 * - `kept`: all is as it was.
 */
export function judgePeer(own: RoleClaim, peer: RoleClaim): 'lost' | 'wait' | 'adopt' | 'kept' {
  if (peer.role === 'primary') return peer.epoch > own.epoch ? 'lost' : 'wait';
  if (isTakingOver(peer)) return 'wait';
  return peer.epoch > own.epoch ? 'adopt' : 'kept';
}

/** What a host that has stepped down makes of its peer's word: `regain` the role once the peer has given it back. */
export function judgeAfterStepDown(own: RoleClaim, peer: RoleClaim): 'stay' | 'regain' {
  return peer.role === 'replica' && peer.epoch >= own.epoch && !isTakingOver(peer) ? 'regain' : 'stay';
}

/** A failover has begun there: it ends as the primary, or takes itself back. */
function isTakingOver({ role, state }: RoleClaim): boolean {
  return role === 'replica' && state === 'RecoveryInProgress';
}

export type StartPolicy = 'when-known' | 'never-alone';

/**
 * Whether a protected VM that is off may be started by the daemon after a restart of its host.
 * @param peer the peer's word; undefined while it can't be asked.
 * @param waitedMs how long it has been asked in vain.
 */
export function judgeStart(
  own: RoleClaim,
  peer: RoleClaim | undefined,
  options: { policy: StartPolicy; waitedMs: number; patienceMs: number },
): 'start' | 'start-unknowing' | 'wait' | 'step-down' | 'not-ours' {
  if (!runsHere(own)) return 'not-ours';
  if (peer !== undefined) {
    if (isTakingOver(peer)) return 'wait';
    return judgePeer(own, peer) === 'lost' ? 'step-down' : 'start';
  }
  return options.policy === 'when-known' && options.waitedMs >= options.patienceMs ? 'start-unknowing' : 'wait';
}

/** Whether the VM of a relationship is this host's to run. */
export function runsHere(own: RoleClaim): boolean {
  return own.role === 'primary' && own.state !== 'PreparedForFailover' && own.state !== 'SteppedDown';
}
