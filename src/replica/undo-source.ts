import type { FrameEntry, LogReader } from '../deltalog/reader.ts';
import type { IndexedRun } from './extent-index.ts';

/** Where in which undo log some bytes are. */
export interface UndoSource {
  readonly reader: LogReader;
  readonly frame: FrameEntry;
}

/** The frames of an undo log, as runs of one disk. */
export function runsOf(reader: LogReader, frames: readonly FrameEntry[], disk: number): IndexedRun<UndoSource>[] {
  return frames
    .filter((frame) => frame.disk === disk)
    .map((frame) => ({ offset: frame.offset, length: frame.length, source: { reader, frame } }));
}
