/**
 * Exports a point by its plan, in a process of its own that is to be killed, or goes on with the plan that is there.
 * Usage: replica-export.ts DIRECTORY FILE SEQUENCE TARGET
 */
import './dying.ts';
import { join } from 'node:path';
import { exportPoint } from '../../src/failover/export.ts';
import type { FailoverServices } from '../../src/failover/services.ts';
import { Journal } from '../../src/journal/journal.ts';
import { runPlan } from '../../src/journal/runner.ts';
import { Lanes } from '../../src/lanes/lanes.ts';
import { silentLog } from '../../src/lib/log.ts';
import { Failure } from '../../src/model/failure.ts';
import { Replicas } from '../../src/replica/replicas.ts';

export const PLAN_ID = '5f7c2f0e-52f4-4a0a-8f6f-0d8f4a4f3b11';

async function carryOut(directory: string, file: string, sequence: number, target: string): Promise<void> {
  const at = (name: string) => join(directory, name);
  const lanes = new Lanes();
  const replicas = await Replicas.open({ directory: at('replicas'), runDirectory: at('run'), lanes, log: silentLog() });
  const [replica] = replicas.all();
  const journal = await Journal.open(at('journal'));
  const request = { relationship: replica!.id, args: { sequence, target, file, format: 'raw' }, id: PLAN_ID };
  const plan = await journal.begin(exportPoint, request);
  const services: Pick<FailoverServices, 'replicas'> = { replicas }; // all that it asks for
  await runPlan(journal, exportPoint, plan, services as FailoverServices).catch((error: unknown) => {
    if (!(error instanceof Failure)) throw error; // it was taken back: its plan says so
  });
  await replicas.close();
  await lanes.close();
}

if (import.meta.main) {
  const [directory = '', file = '', sequence = '', target = ''] = process.argv.slice(2);
  await carryOut(directory, file, Number(sequence), target);
}
