/** A run of bytes on a disk. Offsets and lengths are bytes, below 2^53, lengths above 0. */
export interface Extent {
  readonly offset: number;
  readonly length: number;
}

/** A run of bytes that differs between two states: holding data, or reading as zeros. */
export interface ChangedExtent extends Extent {
  readonly zero: boolean;
}

/** Sum of the lengths. */
export function totalLength(extents: readonly Extent[]): number {
  let total = 0;
  for (const extent of extents) total += extent.length;
  return total;
}

/** Sorted, disjoint union: overlapping and touching extents become one. */
export function union(extents: readonly Extent[]): Extent[] {
  const sorted = extents.toSorted((a, b) => a.offset - b.offset);
  const out: { offset: number; length: number }[] = [];
  for (const extent of sorted) {
    const last = out.at(-1);
    if (last !== undefined && extent.offset <= last.offset + last.length) {
      last.length = Math.max(last.length, extent.offset + extent.length - last.offset);
    } else {
      out.push({ offset: extent.offset, length: extent.length });
    }
  }
  return out;
}

/** Whether any of the extents has a byte of `one`. */
export function overlaps(extents: readonly Extent[], one: Extent): boolean {
  return extents.some(({ offset, length }) => offset < one.offset + one.length && one.offset < offset + length);
}

/** What is left of sorted or unsorted, disjoint `extents` where no hole covers them. */
export function without<T extends Extent>(extents: readonly T[], holes: readonly Extent[]): T[] {
  const sorted = union(holes);
  return extents.flatMap((extent) => {
    const out: T[] = [];
    let at = extent.offset;
    const end = extent.offset + extent.length;
    for (const hole of sorted) {
      if (hole.offset + hole.length <= at) continue;
      if (hole.offset >= end) break;
      if (hole.offset > at) out.push({ ...extent, offset: at, length: hole.offset - at });
      at = Math.min(end, hole.offset + hole.length);
    }
    if (at < end) out.push({ ...extent, offset: at, length: end - at });
    return out;
  });
}

/** The parts of `extent` inside [from, to), or undefined. */
export function clip<T extends Extent>(extent: T, from: number, to: number): T | undefined {
  const offset = Math.max(extent.offset, from);
  const end = Math.min(extent.offset + extent.length, to);
  return end > offset ? { ...extent, offset, length: end - offset } : undefined;
}

/**
 * Walks dirty runs and zero runs together: for every byte that is dirty, whether it reads as zero.
 * Both lists must be sorted and disjoint; they may be cut differently (two NBD meta contexts are).
 */
export function classify(dirty: readonly Extent[], zeros: readonly Extent[]): ChangedExtent[] {
  const out: ChangedExtent[] = [];
  let z = 0;
  for (const { offset, length } of dirty) {
    const end = offset + length;
    let at = offset;
    while (at < end) {
      while (z < zeros.length && zeros[z]!.offset + zeros[z]!.length <= at) z++;
      const hole = zeros[z];
      if (hole === undefined || hole.offset >= end) {
        out.push({ offset: at, length: end - at, zero: false });
        at = end;
      } else if (hole.offset > at) {
        out.push({ offset: at, length: hole.offset - at, zero: false });
        at = hole.offset;
      } else {
        const stop = Math.min(end, hole.offset + hole.length);
        out.push({ offset: at, length: stop - at, zero: true });
        at = stop;
      }
    }
  }
  return out;
}

/** Cuts extents into pieces of at most `size` bytes, at multiples of `size` of the disk. */
export function* pieces<T extends Extent>(extents: Iterable<T>, size: number): Generator<T> {
  for (const extent of extents) {
    let at = extent.offset;
    const end = extent.offset + extent.length;
    while (at < end) {
      const stop = Math.min(end, (Math.floor(at / size) + 1) * size);
      yield { ...extent, offset: at, length: stop - at };
      at = stop;
    }
  }
}

/**
 * Covers [from, to) with runs whose borders lie on multiples of `size` (but for `to` itself): zero where whole blocks
 * are known to be zero, data elsewhere. `extents` must be sorted and disjoint; `from` a multiple of `size`.
 */
export function alignZeros(extents: readonly ChangedExtent[], from: number, to: number, size: number): ChangedExtent[] {
  const out: ChangedExtent[] = [];
  let at = from;
  for (const extent of extents) {
    if (!extent.zero) continue;
    const end = extent.offset + extent.length;
    const start = Math.ceil(extent.offset / size) * size;
    const stop = end >= to ? to : Math.floor(end / size) * size;
    if (stop <= start) continue;
    if (start > at) out.push({ offset: at, length: start - at, zero: false });
    out.push({ offset: start, length: stop - start, zero: true });
    at = stop;
  }
  if (at < to) out.push({ offset: at, length: to - at, zero: false });
  return out;
}
