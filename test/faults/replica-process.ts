/**
 * A replica in a process of its own, to be killed: opens what is there, takes the log in `argv[4]`, if any, applies what waits, merges and closes.
 * Usage: replica-process.ts DIRECTORY RUN-DIRECTORY [LOG SEQUENCE LOG-ID]
 */
import { readFile } from 'node:fs/promises';
import { Lanes } from '../../src/lanes/lanes.ts';
import './dying.ts';
import { silentLog } from '../../src/lib/log.ts';
import { Replica } from '../../src/replica/replica.ts';
import { inPieces } from './replica-primary.ts';

const [directory = '', runDirectory = '', path = '', sequence = '', logId = ''] = process.argv.slice(2);
const lanes = new Lanes();
const replica = await Replica.open({ directory, runDirectory, lanes, log: silentLog() });
if (path !== '') {
  const log = { sequence: Number(sequence), logId };
  const offset = await replica.durableOffset(log);
  await replica.receive(log, offset, inPieces((await readFile(path)).subarray(offset)));
}
await replica.drained();
await replica.merged();
await replica.close();
await lanes.close();
