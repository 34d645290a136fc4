/**
 * Sends one log until the replica has acknowledged it, whatever the network does meanwhile. After each break it asks for the
 * replica's durable offset and goes on there.
 */
import { asFailure, type Failure } from '../model/failure.ts';
import { Retries } from '../model/backoff.ts';
import type { Sent } from '../model/link-speed.ts';
import { pause } from '../lib/clock.ts';
import type { Wake } from '../lib/wake.ts';
import type { LogBody, ReplicaEndpoint, ReplicaStatus } from '../protocol/endpoint.ts';
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
  /** Called when it had better be tried again now. */
  readonly wake?: Wake;
  /** Told of each break, and with undefined when sending goes on. */
  readonly onTrouble: (failure: Failure | undefined) => void;
  /** Told of the try that was acknowledged: its bytes, and how long it took, ms. */
  readonly onSent?: (sent: Sent) => void;
}

/** Tries that a log may arrive damaged. */
const MOST_DAMAGED = 3;

/** Resolves with the acknowledgement. Throws a Failure that trying again can't heal, or the signal's reason. */
export async function sendLog(endpoint: ReplicaEndpoint, log: Sendable, options: SendOptions): Promise<ReplicaStatus> {
  const { progress, signal } = options;
  const retries = new Retries();
  let highest = 0;
  let damaged = 0;
  for (let fresh = options.fresh; ; fresh = false) {
    let moved = false;
    try {
      const name = { sequence: log.sequence, logId: log.logId };
      const offset = fresh ? 0 : await endpoint.durableOffset(options.relationship, name, signal);
      let at = offset;
      const taken = (bytes: number): void => {
        progress.resent += Math.max(0, Math.min(highest, at + bytes) - at);
        at += bytes;
        progress.sent += bytes;
        if (at > highest) {
          highest = at;
          moved = true;
        }
      };
      let waitedMs = 0;
      const waited = async <T>(forMore: Promise<T>): Promise<T> => {
        const since = performance.now();
        return await forMore.finally(() => (waitedMs += performance.now() - since));
      };
      let given = 0;
      const bytes = async function* (): AsyncGenerator<Buffer> {
        const chunks = log.from(offset);
        try {
          for (let next = await waited(chunks.next()); next.done !== true; next = await waited(chunks.next())) {
            signal.throwIfAborted();
            given = next.value.length;
            yield next.value;
            given = 0;
            taken(next.value.length);
          }
        } finally {
          await chunks.return(undefined);
        }
      };
      const { file } = log;
      const body: LogBody = {
        [Symbol.asyncIterator]: bytes,
        ...(file === undefined ? {} : { file: { ...file, taken, moreThan: (have) => waited(file.moreThan(have)) } }),
      };
      const started = performance.now();
      const status = await endpoint.put(options.relationship, name, offset, body, signal);
      if (given > 0) taken(given); // who has the log's end needn't ask for more
      options.onSent?.({ bytes: at - offset, ms: performance.now() - started - waitedMs });
      options.onTrouble(undefined);
      return status;
    } catch (error) {
      if (signal.aborted) throw signal.reason;
      const failure = asFailure(error, 'interrupted');
      // A full replica takes some bytes at each try, too: that is no way forward.
      if (moved && failure.retry === 'backoff') retries.reset();
      const delay = retries.after(failure.retry, options.intervalSeconds);
      // What is damaged wherever it comes from is damaged here: it is captured anew.
      if (failure.code === 'bad-log' && ++damaged >= MOST_DAMAGED) throw failure;
      if (delay === undefined) throw failure;
      progress.breaks++;
      options.onTrouble(failure);
      await rest(delay, endpoint, signal, options.wake);
    }
  }
}

/** Waits, but not when the peer answers somebody else meanwhile, or `wake` is called. */
export async function rest(ms: number, endpoint: ReplicaEndpoint, signal: AbortSignal, wake?: Wake): Promise<void> {
  const ends = [endpoint.back?.(), wake].filter((end) => end !== undefined);
  await pause(ms, ends, signal);
}
