/**
 * Dead connections. After a cut TCP sends again only when about as much time has passed as the cut took: a request that hears nothing
 * may wait on a dead connection, although the way is open again.
 */
import { setTimeout as delay } from 'node:timers/promises';
import type { Silence } from './silence.ts';

/** For so long an answer on a new connection is waited for, ms: the third packet that begins one gets its chance. */
export const DOUBT_PATIENCE_MS = 3000;
/** Between two questions, ms; and for so long a sign of life on the old connection may come late. */
const PAUSE_MS = 300;

/**
 * Asks until the peer answers on a new connection; false as soon as the old one is heard again, or nothing is waited for there.
 * @param answersAnew asks once; `over` aborts when nobody wants to know any more.
 */
export async function isDead(silence: Silence, answersAnew: (over: AbortSignal) => Promise<boolean>): Promise<boolean> {
  const stillSilent = silence.since();
  while (stillSilent()) {
    const answered = await answersAnew(silence.over);
    await delay(PAUSE_MS);
    if (answered) return stillSilent();
  }
  return false;
}
