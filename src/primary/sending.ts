import type { Replication } from './replication.ts';
import type { Sendable } from './outbox.ts';
import { sendLog, type SendProgress } from './send.ts';

/**
 * Starts sending at once; its failure is looked at where the log's fate is decided, not before.
 * @param bytes of the log, as far as it is there.
 */
export function startSending(
  replication: Replication,
  log: Sendable,
  signal: AbortSignal,
  bytes = 0,
): ReturnType<typeof sendLog> {
  const { endpoint } = replication.services;
  const progress: SendProgress = { sent: 0, resent: 0, breaks: 0 };
  replication.activity = { ...replication.activity, send: progress, logBytes: bytes };
  const sending = sendLog(endpoint, log, {
    relationship: replication.id,
    fresh: true,
    intervalSeconds: replication.record.intervalSeconds,
    signal: replication.sendingSignal(signal),
    progress,
    wake: replication.wake,
    onTrouble: (failure) => replication.trouble(failure),
    onSent: (sent) => (replication.lastSent = sent),
  });
  sending.catch(() => undefined); // awaited later; until then it is not "unhandled"
  return sending;
}
