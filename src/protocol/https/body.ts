import type { IncomingMessage } from 'node:http';
import { Failure } from '../../model/failure.ts';
import { Gathering } from './gathering.ts';

/** So much of a body may have come and not been taken yet before the sender is held back, bytes. */
const MOST_AHEAD = 4 * 1024 * 1024;
/** Less than this is given only when no more has come for a moment: each giving costs a system call, bytes and ms. */
const WORTH_GIVING = 512 * 1024;
const MOMENT_MS = 10;

/**
 * The body of a request as it arrives: each time all that has come since, in memory that is used again when the next is
 * asked for. What isn't taken holds the sender back, beyond 4 MiB. Failures: `interrupted` (the connection broke before the end), `timeout`
 * (no byte for `silenceMs` while one was waited for).
 */
export async function* readBody(
  request: IncomingMessage,
  silenceMs: number,
): AsyncGenerator<readonly Uint8Array[], void, void> {
  const gathering = new Gathering();
  let ended = false;
  let wake: (() => void) | undefined;
  let silence: Failure | undefined;
  const onData = (piece: Uint8Array): void => {
    gathering.add(piece);
    if (gathering.size >= WORTH_GIVING) wake?.();
    else if (gathering.size === piece.length) moment.refresh();
    if (gathering.size >= MOST_AHEAD) request.pause();
  };
  const onEnd = (): void => {
    ended = true;
    wake?.();
  };
  const moment = setTimeout(() => {
    if (gathering.size > 0) wake?.();
  }, MOMENT_MS);
  const silent = setTimeout(() => {
    if (wake === undefined) return;
    silence = new Failure('timeout', `No byte of the upload arrived for ${silenceMs / 1000} s`);
    request.destroy();
  }, silenceMs);
  request.on('data', onData).once('end', onEnd).once('close', onEnd);
  try {
    for (;;) {
      if (gathering.size < WORTH_GIVING && !ended) {
        silent.refresh();
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
    request.off('data', onData).off('end', onEnd).off('close', onEnd).pause();
  }
  if (!request.complete) throw silence ?? new Failure('interrupted', 'The connection broke during the upload');
}
