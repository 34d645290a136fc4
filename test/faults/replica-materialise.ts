/**
 * A replica in a process of its own, to be killed while it makes the overlays of a point, as a failover does: what an earlier
 * try left of them goes first. Usage: replica-materialise.ts DIRECTORY RUN-DIRECTORY SEQUENCE TARGET…
 */
import { rm } from 'node:fs/promises';
import { Lanes } from '../../src/lanes/lanes.ts';
import './dying.ts';
import { silentLog } from '../../src/lib/log.ts';
import { Replica } from '../../src/replica/replica.ts';

const [directory = '', runDirectory = '', sequence = '', ...targets] = process.argv.slice(2);
const lanes = new Lanes();
const replica = await Replica.open({ directory, runDirectory, lanes, log: silentLog() });
await replica.freeze();
const overlays = new Map(targets.map((target) => [target, `${directory}-${target}.qcow2`]));
for (const path of overlays.values()) await rm(path, { force: true });
await replica.materialise(Number(sequence), overlays);
await replica.close();
await lanes.close();
