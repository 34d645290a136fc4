import type { IncomingMessage } from 'node:http';
import { Failure } from '../../model/failure.ts';
import { Gathering } from './gathering.ts';

const MOST_AHEAD = 4 * 1024 * 1024;
/** Less than this is given only when no more has come for a moment, bytes and ms: each giving costs a system call. */
const WORTH_GIVING = 512 * 1024;
const MOMENT_MS = 10;

export interface Reading {
  /** How long no byte may come while one is waited for, ms; left out: for ever. */
  readonly silenceMs?: number;
  /** So much may have come and not been taken yet before the sender is held back, bytes: 4 MiB unless told. */
  readonly ahead?: number;
}

/**
 * The body of a request as it arrives: each time all that has come since, in memory that is used again when the next is
 * asked for. Failures: `interrupted` (the connection broke before the end), `timeout` (silence).
 */
export async function* readBody(
  request: IncomingMessage,
  { silenceMs, ahead = MOST_AHEAD }: Reading,
): AsyncGenerator<readonly Uint8Array[], void, void> {
  const gathering = new Gathering(ahead / 4);
  const worth = Math.min(WORTH_GIVING, ahead / 2);
  let ended = false;
  let wake: (() => void) | undefined;
  let silence: Failure | undefined;
  const onData = (piece: Uint8Array): void => {
    gathering.add(piece);
    if (gathering.size >= worth) wake?.();
    else if (gathering.size === piece.length) moment.refresh();
    if (gathering.size >= ahead) request.pause();
  };
  const onEnd = (): void => {
    ended = true;
    wake?.();
  };
  const moment = setTimeout(() => {
    if (gathering.size > 0) wake?.();
  }, MOMENT_MS);
  const giveUp = (ms: number): void => {
    if (wake === undefined) return;
    silence = new Failure('timeout', `No byte of the upload arrived for ${ms / 1000} s`);
    request.destroy();
  };
  const silent = silenceMs === undefined ? undefined : setTimeout(giveUp, silenceMs, silenceMs);
  request.on('data', onData).once('end', onEnd).once('close', onEnd);
  try {
    for (;;) {
      if (gathering.size < worth && !ended) {
        silent?.refresh();
        moment.refresh();
        await new Promise<void>((resolve) => (wake = resolve));
        wake = undefined;
      }
      if (gathering.size === 0) {
        if (ended) break;
        continue;
      }
      const taken = gathering.take();
      request.resume();
      yield taken;
    }
  } finally {
    clearTimeout(silent);
    clearTimeout(moment);
    request.off('data', onData).off('end', onEnd).off('close', onEnd);
  }
  if (!request.complete) throw silence ?? new Failure('interrupted', 'The connection broke during the upload');
}
