/** Server-sent events: `item` carries one item, `failure` says why the stream broke, `end` that it is complete. */
import { pause } from '../lib/clock.ts';
import { Wake } from '../lib/wake.ts';
import { asFailure } from '../model/failure.ts';

/** Without a sign of life for this long a client takes the daemon for dead, so a comment is sent more often. */
const KEEP_ALIVE_MS = 10_000;

const encode = (event: string, data: unknown): string => `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;

/** The text of a stream. Ends quietly when `signal` aborts. */
export async function* eventStream(items: AsyncIterable<unknown>, signal: AbortSignal): AsyncGenerator<string> {
  const iterator = items[Symbol.asyncIterator]();
  try {
    yield ': stream of understudy\n\n'; // sends the headers at once
    for (;;) {
      const next = iterator.next();
      const come = arrival(next);
      while (!come.isHere) {
        await pause(KEEP_ALIVE_MS, [come.wake], signal);
        if (!come.isHere) yield ': alive\n\n';
      }
      const result = await next;
      if (result.done === true) break;
      yield encode('item', result.value);
    }
    yield encode('end', {});
  } catch (error) {
    if (signal.aborted) return;
    yield encode('failure', asFailure(error));
  } finally {
    // The source ends by the signal too. Waiting for it here could wait for an item that never comes.
    iterator.return?.().catch(() => undefined);
  }
}

/** Whether it has settled, and a call when it does: one reaction, however often it is looked at in the days that it may take. */
function arrival(next: Promise<unknown>): { readonly wake: Wake; isHere: boolean } {
  const come = { wake: new Wake(), isHere: false };
  const arrived = (): void => {
    come.isHere = true;
    come.wake.call();
  };
  next.then(arrived, arrived);
  return come;
}
