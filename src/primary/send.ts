/**
 * Sends one log until the replica has acknowledged it, whatever the network does meanwhile. After each break it asks for the
 * replica's durable offset and goes on there.
 */
import { asFailure, type Failure } from '../model/failure.ts';
import { retryDelay } from '../model/backoff.ts';
import { sleep } from '../lib/clock.ts';
import type { ReplicaEndpoint, ReplicaStatus } from '../protocol/endpoint.ts';
import type { Sendable } from './outbox.ts';

export interface SendProgress {
  /** Bytes handed to the network, all tries together, and how many of them had been handed over before. */
  sent: number;
  resent: number;
  /** Tries that broke. */
  breaks: number;
}

export interface SendOptions {
  readonly relationship: string;
  /** The log is new: nobody has sent any of it, so that the replica needn't be asked where to begin. */
  readonly fresh: boolean;
  readonly intervalSeconds: number;
  readonly signal: AbortSignal;
  readonly progress: SendProgress;
  /** Told of each break, and with undefined when sending goes on. */
  readonly onTrouble: (failure: Failure | undefined) => void;
}

/** Resolves with the acknowledgement. Throws a Failure that trying again can't heal, or the signal's reason. */
export async function sendLog(endpoint: ReplicaEndpoint, log: Sendable, options: SendOptions): Promise<ReplicaStatus> {
  const { progress, signal } = options;
  let highest = 0;
  for (let attempt = 1; ; attempt++) {
    let moved = false;
    try {
      const name = { sequence: log.sequence, logId: log.logId };
      const offset =
        options.fresh && highest === 0 && attempt === 1 ? 0 : await endpoint.durableOffset(options.relationship, name);
      progress.resent += Math.max(0, highest - offset);
      let at = offset;
      const body = async function* (): AsyncGenerator<Buffer> {
        for await (const chunk of log.from(offset)) {
          signal.throwIfAborted();
          yield chunk;
          at += chunk.length;
          progress.sent += chunk.length;
          if (at > highest) {
            highest = at;
            moved = true;
          }
        }
      };
      const status = await endpoint.put(options.relationship, name, offset, body(), signal);
      options.onTrouble(undefined);
      return status;
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      const failure = asFailure(error, 'interrupted');
      if (moved) attempt = 1;
      const delay = retryDelay(failure.retry, attempt, options.intervalSeconds);
      if (delay === undefined) throw failure;
      progress.breaks++;
      options.onTrouble(failure);
      await sleep(delay, signal);
    }
  }
}
