/**
 * Over a scarce link a log goes thinner: QEMU tells what has changed in clusters of 64 KiB, of which a guest may have written 4. The log is
 * captured as ever, at local speed; before its first byte is sent the replica is asked for digests of the pages in it, and
 * those that it has already stay behind. What is left is another log from the same state to the same contents, with an id
 * of its own. Which of the two counts is decided in one moment, by the record: until then the captured one, from then on the
 * thinner one. No byte of the captured one has been sent by then, so the replica never meets both.
 */
import { randomBytes } from 'node:crypto';
import { rm } from 'node:fs/promises';
import type { LogFooter } from '../deltalog/header.ts';
import { workerModule } from '../lanes/lanes.ts';
import { crashPoint } from '../lib/crash-point.ts';
import { totalLength } from '../model/extent.ts';
import { LEVELS } from '../model/compression.ts';
import { asFailure, Failure, type FailureCode } from '../model/failure.ts';
import { Retries } from '../model/backoff.ts';
import type { ReplicaStatus } from '../protocol/endpoint.ts';
import { PAGE, PAGE_DIGEST_BYTES } from '../protocol/page-digest.ts';
import type { GrowingLog, Sendable } from './outbox.ts';
import type { Replication } from './replication.ts';
import { rest } from './send.ts';
import { startSending } from './sending.ts';
import type { PagesInDoubt, ThinInput } from './thin.worker.ts';

const THIN = { module: workerModule(import.meta.url, './thin'), name: 'thinLog' };
/** A thinner log is taken only if it is so much thinner. */
const WORTH = 3 / 4;
/** zstd level of what is left, at least, where logs are packed at all: it is little, and each byte counts. */
const LEVEL = 6;
/** After these the replica is asked again; after others the log goes as it is. */
const LINK_BROKE: ReadonlySet<FailureCode> = new Set(['unreachable', 'interrupted', 'timeout']);

/** Whether a log is to be made thinner before it is sent: by what is known of the link. @param logBytes about how long it will be. */
export function isWorthThinning(replication: Replication, logBytes: number, dataBytes: number): boolean {
  const { asking, services, record } = replication;
  if (services.endpoint.pageDigests === undefined) return false;
  return asking.pays({ logBytes, dataBytes, linkSpeed: record.statistics.linkSpeed });
}

/** Sends a log that is whole, of which nothing has been sent: a thinner one in its place, if that can be made. */
export async function sendThinned(
  replication: Replication,
  captured: GrowingLog,
  signal: AbortSignal,
): Promise<ReplicaStatus> {
  const thinner = await thinnerOf(replication, captured, signal);
  if (thinner === undefined) return await startSending(replication, captured, signal, captured.written);
  return await startSending(replication, thinner.log, signal, thinner.bytes);
}

interface Thinner {
  readonly log: Sendable;
  readonly bytes: number;
}

async function thinnerOf(
  replication: Replication,
  captured: GrowingLog,
  signal: AbortSignal,
): Promise<Thinner | undefined> {
  const { outbox, outboxLimit, now, log } = replication.services;
  const header = { ...captured.header, logId: randomBytes(16).toString('hex'), created: now() };
  const path = outbox.path(header.logId);
  // For a while both lie in the outbox.
  const most = Math.min(captured.written * WORTH, (await outboxLimit()) - captured.written);
  if (most <= 0) return undefined;
  let footer: LogFooter | null;
  try {
    footer = await writeThinner(replication, { from: captured.path, to: path, header, most }, signal);
    if (footer === null) replication.asking.saved(0);
  } catch (error) {
    signal.throwIfAborted();
    const failure = asFailure(error, 'io');
    log.info({ relationship: replication.id, code: failure.code }, `sent as it is: ${failure.message}`);
    if (failure.code === 'not-found') replication.asking.isOlder();
    footer = null;
  }
  crashPoint('thin:written');
  if (footer === null) {
    await rm(path, { force: true });
    return undefined;
  }
  return await putInPlace(replication, captured, { logId: header.logId, footer });
}

async function writeThinner(
  replication: Replication,
  input: Omit<ThinInput, 'level'>,
  signal: AbortSignal,
): Promise<LogFooter | null> {
  const { compression, lanes } = replication.services;
  const level =
    compression === 'none' ? LEVELS.plain : Math.max(compression === 'auto' ? LEVELS.hard : compression, LEVEL);
  return await lanes.run<LogFooter | null>(THIN, { ...input, level } satisfies ThinInput, {
    signal,
    onAsked: async (pages) => await ask(replication, input, pages as PagesInDoubt, signal),
  });
}

/** From here on the thinner log is the one in flight. */
async function putInPlace(
  replication: Replication,
  captured: GrowingLog,
  { logId, footer }: { logId: string; footer: LogFooter },
): Promise<Thinner> {
  const { outbox, known } = replication.services;
  const { inFlight, statistics } = replication.record;
  const found = await outbox.find(logId, captured.sequence);
  if (found === undefined) throw new Failure('internal', 'the log that was just written is not there');
  await known.instead(footer.makes);
  const savedBytes = statistics.savedBytes + captured.written - found.bytes;
  replication.asking.saved(1 - found.bytes / captured.written);
  replication.update({
    inFlight: { ...inFlight!, logId, makes: footer.makes },
    statistics: { ...statistics, savedBytes },
  });
  crashPoint('thin:recorded');
  await rm(captured.path, { force: true });
  return found;
}

/** The replica's digests of pages as they are in the state that the log follows. Asks again when the link breaks. */
async function ask(
  replication: Replication,
  { header }: Pick<ThinInput, 'header'>,
  { disk, salt, runs }: PagesInDoubt,
  signal: AbortSignal,
): Promise<Uint8Array> {
  const { endpoint } = replication.services;
  const { target } = header.disks[disk]!;
  const retries = new Retries();
  for (;;) {
    const started = performance.now();
    try {
      const question = { target, position: header.follows, salt, runs };
      const answer = await endpoint.pageDigests!(replication.id, question, signal);
      const bytes = totalLength(runs);
      if (answer.length !== Math.ceil(bytes / PAGE) * PAGE_DIGEST_BYTES) {
        throw new Failure('bad-request', `the replica answered ${answer.length} bytes for ${bytes} bytes of ${target}`);
      }
      replication.asking.answered(bytes, performance.now() - started);
      replication.trouble(undefined);
      crashPoint('thin:asked');
      return answer;
    } catch (error) {
      signal.throwIfAborted();
      const failure = asFailure(error, 'interrupted');
      const delay = retries.after(failure.retry, replication.record.intervalSeconds);
      if (!LINK_BROKE.has(failure.code) || delay === undefined) throw failure;
      replication.trouble(failure);
      await rest(delay, endpoint, signal, replication.wake);
    }
  }
}
