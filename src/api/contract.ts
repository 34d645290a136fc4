/** The contract of the REST API: every operation there is, and the types that follow from the table. */
import type * as z from 'zod';
import { NOTHING, type Operation } from './operation.ts';
import { actionOperations } from './operations/actions.ts';
import { daemonOperations } from './operations/daemon.ts';
import { eventOperations } from './operations/events.ts';
import { failoverOperations } from './operations/failover.ts';
import { neighbourOperations } from './operations/neighbours.ts';
import { peerOperations } from './operations/peers.ts';
import { pointOperations } from './operations/points.ts';
import { replicaOperations } from './operations/replicas.ts';
import { replicationOperations } from './operations/replications.ts';
import { vmOperations } from './operations/vms.ts';

/** By subject, for the reference. */
export const GROUPS = {
  daemon: daemonOperations,
  peers: peerOperations,
  vms: vmOperations,
  replications: replicationOperations,
  replicas: replicaOperations,
  neighbours: neighbourOperations,
  points: pointOperations,
  failover: failoverOperations,
  actions: actionOperations,
  events: eventOperations,
};

export const CONTRACT = {
  ...daemonOperations,
  ...peerOperations,
  ...vmOperations,
  ...replicationOperations,
  ...replicaOperations,
  ...neighbourOperations,
  ...pointOperations,
  ...failoverOperations,
  ...actionOperations,
  ...eventOperations,
} satisfies Record<string, Operation>;

export type Contract = typeof CONTRACT;
export type OperationName = keyof Contract;

/** Names of the operations that answer with a stream. */
export type StreamName = { [N in OperationName]: Contract[N]['stream'] extends true ? N : never }[OperationName];
/** Names of the operations that answer once. */
export type CallName = Exclude<OperationName, StreamName>;

/** A value that crosses the API: read-only all the way down. */
export type Sent<T> = T extends readonly (infer U)[]
  ? readonly Sent<U>[]
  : T extends object
    ? { readonly [K in keyof T]: Sent<T[K]> }
    : T;

/** What a caller gives: defaults may be left out. */
export type Request<N extends OperationName> = z.input<Contract[N]['input']>;
/** What an implementation is given: checked, with defaults. */
export type Input<N extends OperationName> = Sent<z.output<Contract[N]['input']>>;
/** What an implementation answers, or one item of its stream. */
export type Result<N extends OperationName> = Sent<z.output<Contract[N]['result']>>;

/** What an implementation is told about the request. */
export interface Call {
  /** Aborts when the caller has gone or the server closes. */
  readonly signal: AbortSignal;
}

/**
 * What a daemon implements: one function an operation. Failures are thrown as `Failure`. A stream's function resolves
 * when the stream has begun (so that `not-found` is a status, not an item) and its items end with `call.signal`.
 */
export type Operations = {
  readonly [N in CallName]: (input: Input<N>, call: Call) => Promise<Result<N>>;
} & {
  readonly [N in StreamName]: (input: Input<N>, call: Call) => Promise<AsyncIterable<Result<N>>>;
};

/** Every operation with its name, widened. */
export function allOperations(): [OperationName, Operation][] {
  return Object.entries(CONTRACT) as [OperationName, Operation][];
}

/** What goes out: only what the contract knows. Throws a ZodError where the implementation broke the contract. */
export function encodeResult(of: Operation, value: unknown): unknown {
  return of.result === NOTHING ? undefined : of.result.parse(value);
}
