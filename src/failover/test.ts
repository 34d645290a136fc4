/**
 * Test failover, on the Replica server: an isolated copy of the VM is started from any recovery point, on overlays over a
 * view of it, while replication goes on. Its network links are down; what it writes goes when it ends.
 */
import { randomUUID } from 'node:crypto';
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { Failure } from '../model/failure.ts';
import type { PlanDefinition } from '../journal/runner.ts';
import type { Plan } from '../journal/plan.ts';
import { createImage } from '../qemu/image.ts';
import { recordOf, replicaOf, update, type FailoverServices } from './services.ts';

const argsSchema = z.object({
  sequence: z.number(),
  instant: z.number(),
  testVmId: z.string(),
  /** A person takes the point as it is, damaged. */
  damaged: z.boolean().default(false),
});
const args = (plan: Plan) => argsSchema.parse(plan.args);

const directory = (services: FailoverServices, id: string) => join(services.replicaDirectory(id), 'test');
const overlay = (services: FailoverServices, id: string, target: string) =>
  join(directory(services, id), `${target}.qcow2`);

/** Checks that it may begin; gives the plan's arguments. @param point sequence; undefined = the latest. */
export function checkTestStart(services: FailoverServices, id: string, point: number | undefined, damaged = false) {
  const record = recordOf(services, id);
  if (record.role !== 'replica') {
    throw new Failure('wrong-role', `a test failover of ${record.vmName} begins on its Replica server`);
  }
  if (record.test !== null) throw new Failure('already-exists', `${record.test.vmName} is running already`);
  const points = replicaOf(services, id).points();
  const chosen = point === undefined ? points[0] : points.find(({ sequence }) => sequence === point);
  if (chosen === undefined) {
    throw point === undefined
      ? new Failure('wrong-state', `${record.vmName} has no recovery point yet: its initial copy is not complete`)
      : new Failure('not-found', `${record.vmName} has no recovery point ${point}`);
  }
  replicaOf(services, id).requireSound(chosen.sequence, damaged);
  return { sequence: chosen.sequence, instant: chosen.instant, testVmId: randomUUID(), damaged };
}

export const testFailoverStart: PlanDefinition<FailoverServices> = {
  kind: 'test-failover-start',
  steps: [
    {
      name: 'open the recovery point',
      run: async (services, plan) => {
        const { id } = recordOf(services, plan.relationship);
        const disks = replicaOf(services, id).disksAt(args(plan).sequence);
        await replicaOf(services, id).held.add(args(plan).sequence);
        const socket = await services.testViews.ensure(id, args(plan).sequence, args(plan).damaged);
        await mkdir(directory(services, id), { recursive: true, mode: 0o711 });
        for (const { target, size } of disks) {
          const path = overlay(services, id, target);
          await rm(path, { force: true });
          const backing = { path: `nbd+unix:///${target}?socket=${socket}`, format: 'raw' as const };
          await createImage(path, size, { format: 'qcow2', backing });
        }
      },
      undo: async (services, plan) => {
        await services.testViews.close(plan.relationship);
        await rm(directory(services, plan.relationship), { recursive: true, force: true });
        await replicaOf(services, plan.relationship).held.release(args(plan).sequence);
      },
    },
    {
      name: 'define the test VM',
      run: async (services, plan) => {
        const record = recordOf(services, plan.relationship);
        const disks = replicaOf(services, record.id).disksAt(args(plan).sequence);
        await services.hypervisor.define({
          definition: record.definition,
          id: args(plan).testVmId,
          name: testName(record.vmName),
          disks: new Map(
            disks.map(({ target }) => {
              return [target, { path: overlay(services, record.id, target), format: 'qcow2' as const }];
            }),
          ),
          otherDisks: 'remove',
          network: 'disconnected',
          secretsOf: record.vmId,
        });
      },
      undo: (services, plan) => services.hypervisor.undefine(args(plan).testVmId),
    },
    {
      name: 'start the test VM',
      run: async (services, plan) => {
        const { sequence, instant, testVmId: vmId } = args(plan);
        const { vmName } = recordOf(services, plan.relationship);
        await services.testViews.ensure(plan.relationship, sequence);
        const test = { sequence, instant, vmId, vmName: testName(vmName), started: services.now() };
        update(services, plan.relationship, { test });
        await services.hypervisor.start(vmId);
        services.event(
          plan.relationship,
          'info',
          'test-failover-started',
          `${test.vmName} runs from point ${sequence}`,
        );
      },
      undo: async (services, plan) => {
        await services.hypervisor.destroy(args(plan).testVmId);
        update(services, plan.relationship, { test: null });
      },
    },
  ],
};

/** Hyper-V Replica's name for it. */
function testName(vmName: string): string {
  return `${vmName} - Test`;
}

export function checkTestStop(services: FailoverServices, id: string) {
  const { test, vmName } = recordOf(services, id);
  if (test === null) throw new Failure('wrong-state', `no test failover of ${vmName} is running`);
  return { testVmId: test.vmId };
}

const stopArgs = (plan: Plan) => z.object({ testVmId: z.string() }).parse(plan.args);

export const testFailoverStop: PlanDefinition<FailoverServices> = {
  kind: 'test-failover-stop',
  steps: [
    {
      name: 'stop the test VM',
      onFailure: 'stay',
      run: (services, plan) => services.hypervisor.destroy(stopArgs(plan).testVmId),
    },
    {
      name: 'remove the test VM',
      onFailure: 'stay',
      run: (services, plan) => services.hypervisor.undefine(stopArgs(plan).testVmId),
    },
    {
      name: 'remove what it wrote',
      onFailure: 'stay',
      run: async (services, plan) => {
        await services.testViews.close(plan.relationship);
        await rm(directory(services, plan.relationship), { recursive: true, force: true });
        const { test } = recordOf(services, plan.relationship);
        if (test !== null) await replicaOf(services, plan.relationship).held.release(test.sequence);
        update(services, plan.relationship, { test: null });
        services.event(plan.relationship, 'info', 'test-failover-ended', 'the test VM is removed');
      },
    },
  ],
};
