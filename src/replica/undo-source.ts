import type { FrameEntry, LogReader } from '../deltalog/reader.ts';
import type { IndexedRun } from './extent-index.ts';

/** Where in which undo log some bytes are. */
export interface UndoSource {
  readonly reader: LogReader;
  readonly frame: FrameEntry;
}

/** The frames of an undo log, as runs of one disk. @param size bytes of the disk that count: a newer log may know of a larger one. */
export function runsOf(
  reader: LogReader,
  frames: readonly FrameEntry[],
  disk: number,
  size = Number.POSITIVE_INFINITY,
): IndexedRun<UndoSource>[] {
  return frames
    .filter((frame) => frame.disk === disk && frame.offset < size)
    .map((frame) => {
      const length = Math.min(frame.length, size - frame.offset);
      return { offset: frame.offset, length, source: { reader, frame } };
    });
}
