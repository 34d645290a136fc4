import { foreignBitmaps } from '../../qemu/foreign-bitmaps.ts';
import { BITMAP_PREFIX, type VmInspection } from '../hypervisor.ts';
import { isActive, type Domains } from './domains.ts';
import type { Calls, DomainRef } from './rpc/calls.ts';

/** See `Hypervisor.inspect`. */
export async function inspectDomain(calls: Calls, domains: Domains, domain: DomainRef): Promise<VmInspection> {
  const { disks, owner, agentChannel } = await domains.describe(domain);
  const trackable = disks.filter(({ unsupported }) => unsupported === undefined);
  const [checkpoints, bitmaps] = await Promise.all([
    calls.listCheckpoints(domain),
    foreignBitmaps(trackable, BITMAP_PREFIX),
  ]);
  return {
    ...(owner === undefined ? {} : { user: owner }),
    ...(isActive(domain) ? { agent: agentChannel } : {}),
    foreignCheckpoints: checkpoints.filter((name) => !name.startsWith(BITMAP_PREFIX)).toSorted(),
    foreignBitmaps: bitmaps,
  };
}
