/**
 * Gives what `source` gives until `signal` aborts, then throws its reason: at once, even if the source never says another
 * word (a dead connection doesn't).
 */
export async function* abortable<T>(source: AsyncIterable<T>, signal: AbortSignal): AsyncGenerator<T, void, undefined> {
  const iterator = source[Symbol.asyncIterator]();
  let giveUp: ((reason: unknown) => void) | undefined;
  const abort = (): void => giveUp?.(signal.reason);
  signal.addEventListener('abort', abort, { once: true });
  let finished = false;
  try {
    for (;;) {
      signal.throwIfAborted();
      // No race against one lasting promise: that would hold all that was ever given.
      const result = await new Promise<IteratorResult<T>>((resolve, reject) => {
        giveUp = reject;
        iterator.next().then(resolve, reject);
      });
      if (result.done === true) {
        finished = true;
        return;
      }
      yield result.value;
    }
  } finally {
    signal.removeEventListener('abort', abort);
    // Not waited for: the source may hang in its `next`.
    if (!finished) void iterator.return?.().catch(() => undefined);
  }
}

/** Waits for `work` until `signal` aborts, then throws its reason; what `work` throws after that is nobody's concern. */
export async function orAborted<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return await work;
  if (signal.aborted) work.catch(() => undefined); // it has begun: its rejection would be nobody's, and end the process
  signal.throwIfAborted();
  const aborted = Promise.withResolvers<never>();
  const abort = (): void => aborted.reject(signal.reason as Error);
  signal.addEventListener('abort', abort, { once: true });
  try {
    return await Promise.race([work, aborted.promise]);
  } finally {
    signal.removeEventListener('abort', abort);
  }
}
