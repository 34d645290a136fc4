/** Looks whether a log that lies at rest is still what was written. */
import { workerModule, type Lanes } from '../lanes/lanes.ts';

const TASK = { module: workerModule(import.meta.url, './check-log'), name: 'isWholeLog' };

/** Reads all of it, in a lane. ENOENT as it comes. */
export async function isWholeLog(lanes: Lanes, path: string, signal?: AbortSignal): Promise<boolean> {
  return await lanes.run<boolean>(TASK, { path }, signal === undefined ? {} : { signal });
}
