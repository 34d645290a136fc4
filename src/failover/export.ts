/** Writes one disk of a recovery point to a file of its own, on the Replica server, while replication goes on. */
import { access, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { z } from 'zod';
import { syncDirectory } from '../lib/atomic-file.ts';
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
  /** A person takes the point as it is, damaged. */
  damaged: z.boolean().default(false),
});
const args = (plan: Plan) => argsSchema.parse(plan.args);

/** Checks that it may begin; gives the plan's arguments. Failures: `wrong-role`, `not-found`, `already-exists`, `point-damaged`. */
export async function checkExport(services: FailoverServices, id: string, request: z.infer<typeof argsSchema>) {
  const record = recordOf(services, id);
  if (record.role !== 'replica') {
    throw new Failure(
      'wrong-role',
      `recovery points of ${record.vmName} are kept on its Replica server, ${record.peer}`,
    );
  }
  if (
    !replicaOf(services, id)
      .points()
      .some(({ sequence }) => sequence === request.sequence)
  ) {
    throw new Failure('not-found', `${record.vmName} has no recovery point ${request.sequence}`);
  }
  const disks = replicaOf(services, id).disksAt(request.sequence);
  if (!disks.some(({ target }) => target === request.target)) {
    const names = disks.map(({ target }) => target).join(', ');
    const text = `recovery point ${request.sequence} of ${record.vmName} has no disk ${request.target}: it has ${names}`;
    throw new Failure('not-found', text);
  }
  replicaOf(services, id).requireSound(request.sequence, request.damaged);
  if (await exists(request.file)) {
    throw alreadyExists(request.file);
  }
  return request;
}

function alreadyExists(file: string): Failure {
  return new Failure('already-exists', `${file} exists`, { hint: 'Name a file that does not exist.' });
}

async function exists(path: string): Promise<boolean> {
  try {
    await access(path);
    return true;
  } catch {
    return false; // whatever keeps it from being seen will be said when it is written
  }
}

/** Beside the file that it becomes: nobody takes it for that one before it is whole. */
function unfinished(plan: Plan): string {
  return `${args(plan).file}.${plan.id}`;
}

export const exportPoint: PlanDefinition<FailoverServices> = {
  kind: 'export-point',
  steps: [
    {
      name: 'write the file',
      run: async (services, plan) => {
        const { sequence, target, format, damaged } = args(plan);
        const path = unfinished(plan);
        await rm(path, { force: true }); // a crash may have cut it short
        const view = await replicaOf(services, plan.relationship).openView(sequence, undefined, damaged);
        try {
          await convertImage(
            { path: `nbd+unix:///${target}?socket=${view.socketPath}`, format: 'raw' },
            { path, format },
          );
        } finally {
          await view.close();
        }
      },
      undo: (_services, plan) => rm(unfinished(plan), { force: true }),
    },
    {
      name: 'name the file',
      run: async (_services, plan) => {
        const { file } = args(plan);
        const path = unfinished(plan);
        if (!(await exists(path))) return; // done, before a crash
        if (await exists(file)) throw alreadyExists(file); // somebody else's, since
        await rename(path, file);
        await syncDirectory(dirname(file));
      },
    },
  ],
};
