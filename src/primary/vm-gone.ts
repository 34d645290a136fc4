/** A VM that isn't on its host any more: somebody has migrated it to another one, or removed its definition. A relationship belongs to one host. */
import { asFailure, Failure } from '../model/failure.ts';
import type { Replication } from './replication.ts';

/** In words, where that is why something failed; else what was said. */
export async function whereVmIsGone(replication: Replication, failure: Failure): Promise<Failure> {
  if (failure.code !== 'not-found') return failure;
  const { vmId, vmName, peer } = replication.record;
  const found = await replication.services.hypervisor.vmStatus(vmId).catch((error: unknown) => asFailure(error));
  if (!(found instanceof Failure) || found.code !== 'not-found') return failure;
  const hint =
    `If its definition was removed, define it again with the same UUID: replication goes on by itself. If it was migrated, end replication here with \`understudy replication remove ${vmName} --keep-disks\`, ` +
    `and enable it on the host where ${vmName} is now, with the disks that ${peer} keeps (docs/resync.md, “Beginning with disks that are there already”): only what differs is sent.`;
  const text = `${vmName} is not on this host any more: it was migrated to another one, or its definition was removed; nothing protects it from here`;
  return new Failure('not-found', text, { hint, cause: failure });
}
