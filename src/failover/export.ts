/** Writes one disk of a recovery point to a file of its own, on the Replica server, while replication goes on. */
import { access, rm } from 'node:fs/promises';
import { z } from 'zod';
import { Failure } from '../model/failure.ts';
import type { PlanDefinition } from '../journal/runner.ts';
import type { Plan } from '../journal/plan.ts';
import { convertImage } from '../qemu/image.ts';
import { recordOf, replicaOf, type FailoverServices } from './services.ts';

const argsSchema = z.object({
  sequence: z.number(),
  target: z.string(),
  file: z.string(),
  format: z.enum(['qcow2', 'raw']),
});
const args = (plan: Plan) => argsSchema.parse(plan.args);

/** Checks that it may begin; gives the plan's arguments. Failures: `wrong-role`, `not-found`, `already-exists`. */
export async function checkExport(services: FailoverServices, id: string, request: z.infer<typeof argsSchema>) {
  const record = recordOf(services, id);
  if (record.role !== 'replica') {
    throw new Failure(
      'wrong-role',
      `recovery points of ${record.vmName} are kept on its Replica server, ${record.peer}`,
    );
  }
  if (!record.disks.some(({ target }) => target === request.target)) {
    throw new Failure('not-found', `${record.vmName} has no replicated disk ${request.target}`);
  }
  if (
    !replicaOf(services, id)
      .points()
      .some(({ sequence }) => sequence === request.sequence)
  ) {
    throw new Failure('not-found', `${record.vmName} has no recovery point ${request.sequence}`);
  }
  if (await exists(request.file)) {
    throw new Failure('already-exists', `${request.file} exists`, { hint: 'Name a file that does not exist.' });
  }
  return request;
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false; // whatever keeps it from being seen will be said when it is written
  }
}

export const exportPoint: PlanDefinition<FailoverServices> = {
  kind: 'export-point',
  steps: [
    {
      name: 'write the file',
      run: async (services, plan) => {
        const { sequence, target, file, format } = args(plan);
        const view = await replicaOf(services, plan.relationship).openView(sequence);
        try {
          await convertImage(
            { path: `nbd+unix:///${target}?socket=${view.socketPath}`, format: 'raw' },
            { path: file, format },
          );
        } finally {
          await view.close();
        }
      },
      undo: (_services, plan) => rm(args(plan).file, { force: true }),
    },
  ],
};
