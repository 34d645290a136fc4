/** Holds a sender up while the disks don't keep pace with what is received. */
import { orAborted } from '../lib/abortable.ts';
import { Failure } from '../model/failure.ts';
import type { Applier } from './applier.ts';
import type { Inbox } from './inbox.ts';

/** More logs than these waiting to be applied hold the primary up. */
const MAX_WAITING = 4;
/** For so long a sender is held up before it is told `busy`, ms. */
const PATIENCE_MS = 10_000;

/** Resolves when one more log may be received. Failures: `busy` after a while, and why nothing is applied. */
export async function roomFor(inbox: Inbox, applier: Applier, signal?: AbortSignal): Promise<void> {
  const patience = AbortSignal.timeout(PATIENCE_MS);
  const stop = signal === undefined ? patience : AbortSignal.any([patience, signal]);
  while (inbox.waiting.length >= MAX_WAITING) {
    if (applier.failure !== null) throw applier.failure;
    if (patience.aborted) throw new Failure('busy', `${inbox.waiting.length} received logs aren't applied yet`);
    signal?.throwIfAborted();
    await orAborted(applier.progress(), stop).catch(() => undefined); // seen at the head of the loop
  }
}
