import * as z from 'zod';
import { nothing } from '../input.ts';
import { operation } from '../operation.ts';
import { DaemonView } from '../resources.ts';

const severity = z.enum(['ok', 'warning', 'critical']);

const DiagnosisView = z
  .object({
    worst: severity.describe('of the findings'),
    findings: z.array(
      z.object({
        severity: severity.describe('critical: something cannot work so; warning: it may not, or not in every case'),
        subject: z.string().describe('what was looked at'),
        found: z.string(),
        cure: z.string().nullable().describe('what a person does about it; null where nothing has to be done'),
      }),
    ),
  })
  .meta({ id: 'Diagnosis', description: 'What the daemon found when it looked at its host, peers and VMs.' });

export const daemonOperations = {
  daemonStatus: operation({
    summary: 'Show the daemon of this host: identity, libvirt, free space',
    method: 'GET',
    path: '/status',
    input: nothing,
    result: DaemonView,
    errors: [],
  }),
  doctor: operation({
    summary: 'Look for what may keep replication or a failover from working, with the cure of each finding',
    description:
      "The daemon looks, and changes nothing: KVM, versions, rights of QEMU's user, room, AppArmor and SELinux, the peers' names, ports and " +
      'clocks, the disks and guest agents of VMs, and what other programs left in them.',
    method: 'GET',
    path: '/doctor',
    input: z.strictObject({
      vm: z.string().min(1).optional().describe('name or id of a VM; default: those that are replicated from here'),
      peer: z.string().min(1).optional().describe('name of a paired host; default: that of the VM, or all'),
    }),
    result: DiagnosisView,
    errors: ['not-found'],
  }),
};
