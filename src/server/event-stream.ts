/** Server-sent events: `item` carries one item, `failure` says why the stream broke, `end` that it is complete. */
import { asFailure } from '../model/failure.ts';

/** Without a sign of life for this long a client takes the daemon for dead, so a comment is sent more often. */
const KEEP_ALIVE_MS = 10_000;

const encode = (event: string, data: unknown): string => `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;

/** The text of a stream. Ends quietly when `signal` aborts. */
export async function* eventStream(items: AsyncIterable<unknown>, signal: AbortSignal): AsyncGenerator<string> {
  const iterator = items[Symbol.asyncIterator]();
  try {
    yield ': stream of understudy\n\n'; // sends the headers at once
    let next = iterator.next();
    for (;;) {
      const result = await firstOf(next, signal);
      if (result === 'aborted') return;
      if (result === 'quiet') {
        yield ': alive\n\n';
        continue;
      }
      if (result.done === true) break;
      yield encode('item', result.value);
      next = iterator.next();
    }
    yield encode('end', {});
  } catch (error) {
    yield encode('failure', asFailure(error));
  } finally {
    // The source ends by the signal too. Waiting for it here could wait for an item that never comes.
    iterator.return?.().catch(() => undefined);
  }
}

type Next = IteratorResult<unknown> | 'quiet' | 'aborted';

function firstOf(next: Promise<IteratorResult<unknown>>, signal: AbortSignal): Promise<Next> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => settle('quiet'), KEEP_ALIVE_MS);
    const onAbort = (): void => settle('aborted');
    const stop = (): void => {
      clearTimeout(timer);
      signal.removeEventListener('abort', onAbort);
    };
    const settle = (value: Next): void => {
      stop();
      resolve(value);
    };
    next.then(settle, (error: unknown) => {
      stop();
      reject(error as Error);
    });
    if (signal.aborted) onAbort();
    else signal.addEventListener('abort', onAbort);
  });
}
