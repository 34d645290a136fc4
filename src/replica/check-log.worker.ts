/** Lane's side of checking a log at rest. */
import { resumeParser } from '../deltalog/reader.ts';

/** Whether each byte of a finished log checks out, by its own digests. */
export async function isWholeLog({ path }: { readonly path: string }): Promise<boolean> {
  return (await resumeParser(path)).complete;
}
