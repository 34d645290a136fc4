/** Lane's side of applying a log: takes items of it, first for their before-images, then to write them. */
import { digestBlocks } from '../digests/read-digests.ts';
import type { LaneContext } from '../lanes/context.ts';
import { LogReader } from '../deltalog/reader.ts';
import { crashPoint } from '../lib/crash-point.ts';
import { totalLength, type Extent } from '../model/extent.ts';
import { NbdClient } from '../qemu/nbd/client.ts';
import { BASE_ALLOCATION } from '../qemu/nbd/wire.ts';
import { BeforeImages } from './before-images.ts';
import { ItemContents, ItemMemory } from './contents.ts';
import { CopiedContents } from './copied.ts';
import { LogDigests } from './log-digests.ts';
import { isCopied, itemsOf, type Arrival, type Item, type Share, type ShareDigests } from './log-share.ts';
import { writeItem } from './redo.ts';

/**
 * After its first item a lane unpacks what is to be written already for the before-images only if so much of what came before hadn't
 * changed: it is unpacked twice then.
 */
const WORTH_COMPARING = 1 / 4;

/** An item that is this lane's. */
interface Own {
  readonly item: Item;
  /** What has to be written of it; undefined for all. */
  readonly toWrite?: readonly Extent[];
  /** Unpacked already. */
  readonly contents?: ItemContents;
}

/** Applies a share of a log; gives the digests of the blocks that it wrote. */
export async function applyShare(share: Share, context: LaneContext): Promise<ShareDigests> {
  const clients = new Map<number, NbdClient>();
  const client = async (disk: number): Promise<NbdClient> => {
    const connected =
      clients.get(disk) ?? (await NbdClient.connect({ ...share.disks[disk]!, metaContexts: [BASE_ALLOCATION] }));
    clients.set(disk, connected);
    return connected;
  };
  const reader = await LogReader.open(share.log);
  try {
    const all = [...share.tails, ...itemsOf(await reader.index())];
    const items = taken(all, share.taken);
    const own = share.undo === null ? toItems(items) : await undo(share.undo, reader, items, client, context);
    const refers = all.some(isCopied);
    const digests = await write({ reader, own, refers, client }, context);
    const written: Arrival = { at: 'written' };
    await context.ask(written);
    for (const [disk, seen] of digests) {
      for (const { from, to } of seen.unseen()) {
        context.signal.throwIfAborted();
        seen.seen({ from, digests: await digestBlocks(await client(disk), from, to - from) });
      }
    }
    return share.disks.map((_, disk) => digests.get(disk)?.runs ?? []);
  } finally {
    await reader.close();
    for (const connected of clients.values()) connected.destroy();
  }
}

/** The items that nobody else has taken. */
function* taken(items: readonly Item[], counter: SharedArrayBuffer): Generator<Item, void, undefined> {
  const next = new Int32Array(counter);
  for (let i = Atomics.add(next, 0, 1); i < items.length; i = Atomics.add(next, 0, 1)) yield items[i]!;
}

function* toItems(items: Iterable<Item>): Generator<Own, void, undefined> {
  for (const item of items) yield { item };
}

async function undo(
  target: NonNullable<Share['undo']>,
  reader: LogReader,
  items: Iterable<Item>,
  client: (disk: number) => Promise<NbdClient>,
  context: LaneContext,
): Promise<Own[]> {
  const own: Own[] = [];
  const memory = new ItemMemory();
  const images = await BeforeImages.open(target);
  try {
    let compared = 0;
    let unchanged = 0;
    for (const item of items) {
      context.signal.throwIfAborted();
      const keep = own.length === 0; // one item is held in memory, more aren't
      if (isCopied(item) || (!keep && unchanged < compared * WORTH_COMPARING)) {
        await images.record(item, await client(item.disk), () => undefined);
        own.push({ item });
        continue;
      }
      const contents = await ItemContents.read(reader, item, false, keep ? new ItemMemory() : memory);
      const toWrite = await images.record(item, await client(item.disk), (part) => contents.of(part));
      compared += totalLength(item.parts);
      unchanged += totalLength(item.parts) - totalLength(toWrite);
      own.push({ item, toWrite, ...(keep ? { contents } : {}) });
    }
    await images.flush();
  } finally {
    await images.close();
  }
  const undone: Arrival = { at: 'undone', segments: images.segments };
  await context.ask(undone);
  return own;
}

interface Writing {
  readonly reader: LogReader;
  /** Those of references last. */
  readonly own: Iterable<Own>;
  /** Whether the log has references, of this lane or of others. */
  readonly refers: boolean;
  readonly client: (disk: number) => Promise<NbdClient>;
}

async function write({ reader, own, refers, client }: Writing, context: LaneContext): Promise<Map<number, LogDigests>> {
  const digests = new Map<number, LogDigests>();
  const memory = new ItemMemory();
  const sourced: Arrival = { at: 'sourced' };
  let waited = !refers;
  for (const { item, toWrite, contents } of own) {
    context.signal.throwIfAborted();
    if (isCopied(item) && !waited) {
      await context.ask(sourced);
      waited = true;
    }
    const disk = await client(item.disk);
    let seen = digests.get(item.disk);
    if (seen === undefined) digests.set(item.disk, (seen = new LogDigests(disk.size)));
    // Frames that were looked at for the undo log have been verified by that.
    const verified = toWrite !== undefined;
    const bytes = isCopied(item)
      ? await CopiedContents.read(item, client, memory.unpacked)
      : (contents ?? (await ItemContents.read(reader, item, verified, memory)));
    const half = item.parts.length >> 1;
    await writeItem({ ...item, parts: item.parts.slice(0, half) }, bytes, toWrite, disk, seen);
    crashPoint('replica:writing');
    await writeItem({ ...item, parts: item.parts.slice(half) }, bytes, toWrite, disk, seen);
  }
  if (!waited) await context.ask(sourced); // the others wait for this lane
  return digests;
}
