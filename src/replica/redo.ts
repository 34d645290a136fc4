/**
 * Writes a log into the disks. Doing it again changes nothing, so whatever interrupts it, it is simply done again.
 */
import type { FrameEntry, LogReader } from '../deltalog/reader.ts';
import { FrameKind } from '../deltalog/frame.ts';
import { crashPoint } from '../lib/crash-point.ts';
import type { NbdClient } from '../qemu/nbd/client.ts';

/** Frames under way at once; a frame is at most 4 MiB. */
const IN_FLIGHT = 4;

interface UnderWay {
  readonly frame: FrameEntry;
  readonly end: Promise<void>;
}

/** Whoever looks at a log while it is written. */
export interface Onlooker {
  /** These are the bytes of a data frame. */
  see(frame: FrameEntry, data: Buffer): void;
  /** All is written, and being flushed; waited for. */
  written(): Promise<void>;
}

/** Writes all frames and flushes the disks. Of two frames for the same bytes the later one lasts. */
export async function writeLog(
  reader: LogReader,
  frames: readonly FrameEntry[],
  clients: readonly NbdClient[],
  onlooker: Onlooker,
): Promise<void> {
  const underWay = new Set<UnderWay>();
  let failure: { error: unknown } | undefined;
  for (const [i, frame] of frames.entries()) {
    while (underWay.size >= IN_FLIGHT || [...underWay].some((other) => overlap(frame, other.frame))) {
      await Promise.race([...underWay].map(({ end }) => end));
    }
    if (failure !== undefined) break;
    const item: UnderWay = {
      frame,
      end: writeFrame(reader, frame, clients[frame.disk]!, onlooker).then(
        () => void underWay.delete(item),
        (error: unknown) => {
          failure ??= { error };
          underWay.delete(item);
        },
      ),
    };
    underWay.add(item);
    if (i === frames.length >> 1) crashPoint('replica:writing');
  }
  await Promise.all([...underWay].map(({ end }) => end));
  if (failure !== undefined) throw failure.error;
  crashPoint('replica:written');
  // All have ended before it may be done again.
  const ends = await Promise.allSettled([...clients.map((client) => client.flush()), onlooker.written()]);
  for (const end of ends) if (end.status === 'rejected') throw end.reason;
}

async function writeFrame(reader: LogReader, frame: FrameEntry, client: NbdClient, onlooker: Onlooker): Promise<void> {
  if (frame.kind === FrameKind.zero) {
    await client.writeZeroes(frame.offset, frame.length, { mayUnmap: true });
  } else {
    const data = await reader.data(frame);
    onlooker.see(frame, data);
    await client.write(frame.offset, data);
  }
}

function overlap(a: FrameEntry, b: FrameEntry): boolean {
  return a.disk === b.disk && a.offset < b.offset + b.length && b.offset < a.offset + a.length;
}
