/**
 * Reads what changed at an open point into a delta log, at local speed.
 */
import { digest } from '../lib/digest.ts';
import { alignZeros, pieces, union, type ChangedExtent, type Extent } from '../model/extent.ts';
import type { Point, PointExport } from '../hypervisor/hypervisor.ts';
import { DIGEST_BLOCK, DIGEST_BYTES } from '../protocol/endpoint.ts';
import { changedExtents, readPieces } from '../qemu/disk.ts';
import { NbdClient } from '../qemu/nbd/client.ts';
import type { LogWriter } from '../deltalog/writer.ts';

const PIECE = 1024 * 1024;
const IN_FLIGHT = 4;
const READ = { pieceSize: PIECE, inFlight: IN_FLIGHT };

/** The changed extents of every disk of a point, by index in `targets`, with a connection to read them. */
export class PointReader implements AsyncDisposable {
  readonly #clients: NbdClient[];
  readonly #exports: PointExport[];

  private constructor(clients: NbdClient[], exports: PointExport[]) {
    this.#clients = clients;
    this.#exports = exports;
  }

  static async connect(point: Point, targets: readonly string[]): Promise<PointReader> {
    const exports = targets.map((target) => point.exports.find((candidate) => candidate.target === target)!);
    const clients: NbdClient[] = [];
    try {
      for (const { socketPath, exportName, dirtyContext } of exports) {
        const metaContexts = dirtyContext === null ? ['base:allocation'] : ['base:allocation', dirtyContext];
        clients.push(await NbdClient.connect({ socketPath, exportName, metaContexts }));
      }
    } catch (error) {
      await Promise.all(clients.map((client) => client.close()));
      throw error;
    }
    return new PointReader(clients, exports);
  }

  size(disk: number): number {
    return this.#exports[disk]!.size;
  }

  /** What is dirty on a disk within [from, to), with what of it reads as zeros. */
  changed(disk: number, from: number, to: number): Promise<ChangedExtent[]> {
    return changedExtents(this.#clients[disk]!, this.#exports[disk]!.dirtyContext, from, to);
  }

  /** Writes the extents of a disk into the log. */
  async copy(
    disk: number,
    extents: readonly ChangedExtent[],
    writer: LogWriter,
    signal: AbortSignal,
    onPiece: () => void = () => undefined,
  ): Promise<void> {
    for await (const piece of readPieces(this.#clients[disk]!, extents, READ)) {
      signal.throwIfAborted();
      if (piece.zero) await writer.zero(disk, piece.offset, piece.length);
      else await writer.data(disk, piece.offset, piece.data!);
      onPiece();
    }
  }

  /**
   * Writes into the log only the blocks of [from, to) whose digest isn't the replica's.
   * @param theirs the replica's digests of those blocks, DIGEST_BYTES each; `from` is a multiple of DIGEST_BLOCK.
   */
  async copyDifferent(
    disk: number,
    from: number,
    to: number,
    theirs: Buffer,
    writer: LogWriter,
    signal: AbortSignal,
  ): Promise<{ compared: number; different: number }> {
    let compared = 0;
    let different = 0;
    const allocation = await changedExtents(this.#clients[disk]!, null, from, to);
    for await (const piece of readPieces(this.#clients[disk]!, alignZeros(allocation, from, to, DIGEST_BLOCK), READ)) {
      signal.throwIfAborted();
      const differing: Extent[] = [];
      for (const block of pieces([{ offset: piece.offset, length: piece.length }], DIGEST_BLOCK)) {
        const at = ((block.offset - from) / DIGEST_BLOCK) * DIGEST_BYTES;
        const our = piece.zero ? digestOfZeros(block.length) : digest(within(piece, block));
        compared++;
        if (!our.equals(theirs.subarray(at, at + DIGEST_BYTES))) differing.push(block);
      }
      different += differing.length;
      for (const run of union(differing)) {
        if (piece.zero) await writer.zero(disk, run.offset, run.length);
        else await writer.data(disk, run.offset, within(piece, run));
      }
    }
    return { compared, different };
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.close()));
  }
}

const ZERO_BLOCK = digest(Buffer.alloc(DIGEST_BLOCK));

function digestOfZeros(length: number): Buffer {
  return length === DIGEST_BLOCK ? ZERO_BLOCK : digest(Buffer.alloc(length));
}

function within(piece: { offset: number; data?: Buffer }, part: Extent): Buffer {
  const at = part.offset - piece.offset;
  return piece.data!.subarray(at, at + part.length);
}
