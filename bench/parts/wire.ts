/** What goes over the wire for what a guest has changed: files of a system, and a database's pages. */
import { zstdCompressSync, constants } from 'node:zlib';
import { Corpus, GIB, KIB, MIB } from '../images/corpus.ts';
import {
  incompressible,
  pages,
  realistic,
  scattered,
  totalOf,
  twice,
  type Content,
  type Run,
} from '../images/change.ts';
import { mbit, NO_LIMIT, type LinkOptions } from '../link/link.ts';
import { alternate, type Contestant } from '../measure/samples.ts';
import { atMost, type Part } from '../part.ts';
import { Pair } from '../rig/pair.ts';
import { amount } from '../rows.ts';

const VM = 'vm';
const CLUSTER = 64 * KIB;
const SCARCE = { ...NO_LIMIT, bytesPerSecond: mbit(20) };

export const wire: Part = {
  name: 'wire',
  title: 'Bytes on the wire (counted by a proxy: TLS, answers and all)',
  async run(bench) {
    const { place, full, rounds, say, images } = bench;
    const small = await Corpus.open(images, GIB, 0.4 * GIB);
    const { size: diskBytes, path: source } = small;
    const places = pages(diskBytes, full ? 2000 : 400);
    const extents = scattered(diskBytes, full ? 128 * MIB : 16 * MIB, 32);
    const opening = Pair.open(place, {
      name: 'wire',
      vms: { [VM]: { history: 2 } },
      diskBytes,
      source,
      link: NO_LIMIT,
    });
    try {
      return await place.with(opening, async (pair) => {
        await pair.establish();
        const files = realistic(bench.corpus);
        const go = (name: string, runs: readonly Run[], link: LinkOptions, content = files) =>
          ours(pair, { name, runs, link, content });
        const contestants = [
          go('files', extents, NO_LIMIT),
          go('pages', places, NO_LIMIT),
          go('pages scarce', places, SCARCE),
          go('once', extents, NO_LIMIT, incompressible),
          go('twice', extents, NO_LIMIT, twice(incompressible, totalOf(extents))),
        ];
        const samples = await alternate(contestants, rounds, say);
        const of = (name: string) => samples.get(name)!.map(({ figures }) => figures['bytes']!);
        const whole = (name: string) => samples.get(name)!.map(({ figures }) => figures['whole']!);
        const perByte = (name: string, runs: readonly Run[]) => of(name).map((bytes) => bytes / totalOf(runs));
        const clusters = (name: string) => ({
          name: 'whole clusters, zstd 1',
          values: whole(name).map((bytes) => bytes / MIB),
        });
        const mib = (name: string) => of(name).map((bytes) => bytes / MIB);
        return [
          amount('files: per byte changed', 'B', perByte('files', extents)),
          amount('4K pages: per byte changed', 'B', perByte('pages', places)),
          amount('4K pages, 20 Mbit/s: per byte changed', 'B', perByte('pages scarce', places)),
          amount('4K pages', 'MiB', mib('pages'), { peer: clusters('pages') }),
          amount('4K pages, 20 Mbit/s', 'MiB', mib('pages scarce'), {
            peer: clusters('pages scarce'),
            target: atMost('ratio', 0.2),
          }),
          amount('half the blocks the same, none to be packed', 'MiB', mib('twice'), {
            peer: { name: 'none the same', values: mib('once') },
            target: atMost('ratio', 0.55),
          }),
        ];
      });
    } finally {
      small.close();
    }
  },
};

interface Contest {
  readonly name: string;
  readonly runs: readonly Run[];
  readonly link: LinkOptions;
  readonly content: Content;
}

function ours(pair: Pair, { name, runs, link, content }: Contest): Contestant {
  const salt = name.length / 16; // other bytes in each contest
  return {
    name,
    prepare: async (round) => {
      if (link !== NO_LIMIT) {
        // That a link is scarce shows in a log that has gone over it: one that isn't measured.
        await pair.change(VM, runs, content, round + salt / 2);
        await pair.link.set(link);
        await pair.advance(VM);
        await pair.link.set(NO_LIMIT);
      }
      await pair.change(VM, runs, content, round + salt);
    },
    go: async () => {
      const whole = await wholeClusters(pair, runs);
      const before = await pair.link.set(link);
      const sample = await pair.cycle(VM);
      const after = await pair.link.set(NO_LIMIT);
      const bytes = after.bytesThere + after.bytesBack - before.bytesThere - before.bytesBack;
      return { ...sample, figures: { ...sample.figures, bytes, whole } };
    },
  };
}

/** What the changed clusters come to when they are sent whole, packed in pieces of 1 MiB. */
async function wholeClusters(pair: Pair, runs: readonly Run[]): Promise<number> {
  const clusters = new Set<number>();
  for (const { offset, length } of runs) {
    for (let at = offset - (offset % CLUSTER); at < offset + length; at += CLUSTER) clusters.add(at);
  }
  const disk = await pair.disk(VM);
  const pack = (piece: Buffer) =>
    zstdCompressSync(piece, { params: { [constants.ZSTD_c_compressionLevel]: 1 } }).length;
  let bytes = 0;
  let piece: Buffer[] = [];
  for (const at of [...clusters].toSorted((a, b) => a - b)) {
    piece.push(await disk.read(at, CLUSTER));
    if (piece.length < MIB / CLUSTER) continue;
    bytes += pack(Buffer.concat(piece));
    piece = [];
  }
  if (piece.length > 0) bytes += pack(Buffer.concat(piece));
  await disk.close();
  return bytes;
}
