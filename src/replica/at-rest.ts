import type { Gate } from '../lib/gate.ts';
import { Failure } from '../model/failure.ts';

/** So long it waits for what is still to be applied, ms. */
const PATIENCE_MS = 5000;

interface Applying {
  /** Received logs that aren't applied yet. */
  readonly waiting: number;
  drained(signal: AbortSignal): Promise<void>;
}

/** Reads disks into which everything received has been applied, and which stay as they are meanwhile. Failure `busy` while logs wait. */
export async function atRest<T>(replica: Applying, standstill: Gate, read: () => Promise<T>): Promise<T> {
  const busy = () => new Failure('busy', `${replica.waiting} received logs aren't applied yet`);
  await replica.drained(AbortSignal.timeout(PATIENCE_MS)).catch((error: unknown) => {
    throw error instanceof Failure ? error : busy();
  });
  return await standstill.run('reading digests', async () => {
    if (replica.waiting > 0) throw busy();
    return await read();
  });
}
