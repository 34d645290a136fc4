/**
 * Puts the disk vda of a VM under tracking, or gives it back, by the plan, in a process of its own that is to be killed, or goes on with the
 * plan that is there. Usage: raw-disk-process.ts DIRECTORY KIND VM RAW IMAGE; VMs are the parent's.
 */
import './dying.ts';
import { join } from 'node:path';
import type { FailoverServices } from '../../src/failover/services.ts';
import { Journal } from '../../src/journal/journal.ts';
import { runPlan } from '../../src/journal/runner.ts';
import { Failure } from '../../src/model/failure.ts';
import { remoteHypervisor } from './remote-hypervisor.ts';
import { PLANS } from './two-hosts.ts';

const [directory = '', kind = '', vmId = '', raw = '', image = ''] = process.argv.slice(2);
const journal = await Journal.open(join(directory, 'journal'));
const definition = PLANS.find((plan) => plan.kind === kind)!;
const request = { relationship: vmId, args: { vmId, target: 'vda', raw, image } };
const plan = journal.pending()[0] ?? (await journal.begin(definition, request));
const services: Pick<FailoverServices, 'hypervisor'> = { hypervisor: remoteHypervisor('a') }; // all that it asks for
await runPlan(journal, definition, plan, services as FailoverServices).catch((error: unknown) => {
  if (!(error instanceof Failure)) throw error; // it was taken back: its plan says so
});
process.disconnect();
