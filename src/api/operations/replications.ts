import * as z from 'zod';
import {
  autoResync,
  definitionPolicy,
  history,
  intervalSeconds,
  leaseSeconds,
  nothing,
  onlyRef,
  readBytesPerSecond,
  readIops,
  ref,
  replicaPlaintext,
  thin,
} from '../input.ts';
import { NOTHING, operation, streaming } from '../operation.ts';
import { DEFAULT_AUTO_RESYNC } from '../../model/auto-resync.ts';
import { DriftView } from '../replica-resources.ts';
import { ReplicationView } from '../resources.ts';

export const replicationOperations = {
  replicationList: operation({
    summary: 'List the replication relationships of this host',
    method: 'GET',
    path: '/replications',
    input: nothing,
    result: z.array(ReplicationView),
    errors: [],
  }),
  replicationShow: operation({
    summary: 'Show a relationship: state, health, lag, progress, the other side',
    method: 'GET',
    path: '/replications/:ref',
    input: onlyRef,
    result: ReplicationView,
    errors: ['not-found'],
  }),
  replicationWatch: streaming({
    summary: 'Follow relationships live',
    description: 'The first items are the present state; another follows whenever one changes, at most a few a second.',
    method: 'GET',
    path: '/streams/replications',
    input: z.strictObject({ ref: ref.optional() }),
    result: ReplicationView,
    errors: ['not-found'],
  }),
  replicationEnable: operation({
    summary: 'Enable replication of a VM to a paired host',
    description: 'Answers when the relationship exists and tracking has begun; the initial copy goes on by itself.',
    method: 'POST',
    path: '/replications',
    input: z.strictObject({
      vm: z.string().min(1).describe('name or id of the VM'),
      peer: z.string().min(1).describe('name of the paired host that is to be its Replica server'),
      intervalSeconds: intervalSeconds.default(300),
      history: history.default(24),
      thin: thin.default([]),
      leaseSeconds: leaseSeconds.default(0),
      readBytesPerSecond: readBytesPerSecond.default(0),
      readIops: readIops.default(0),
      autoResync: autoResync.default(DEFAULT_AUTO_RESYNC),
      definitionPolicy: definitionPolicy.exactOptional(),
      replicaPlaintext: replicaPlaintext.default(false),
      useSeed: z
        .boolean()
        .default(false)
        .describe(
          'begin with the disks of a VM that the Replica server has set aside for it (replicaSeed): only what differs is sent',
        ),
      excludeDisks: z.array(z.string().min(1)).default([]).describe('targets of disks that are left out'),
    }),
    result: ReplicationView,
    errors: [
      'not-found',
      'already-exists',
      'disk-encrypted',
      'disk-unsupported',
      'unsupported-version',
      'no-access',
      'bad-config',
      'unreachable',
      'timeout',
      'peer-refused',
      'peer-identity',
      'libvirt',
      'libvirt-down',
      'job-conflict',
      'no-space',
    ],
  }),
  replicationSet: operation({
    summary: 'Change the settings of a relationship (on its primary)',
    method: 'PATCH',
    path: '/replications/:ref',
    input: z.strictObject({
      ref,
      intervalSeconds: intervalSeconds.optional(),
      history: history.optional(),
      thin: thin.optional(),
      leaseSeconds: leaseSeconds.optional(),
      readBytesPerSecond: readBytesPerSecond.optional(),
      readIops: readIops.optional(),
      autoResync: autoResync.optional(),
      definitionPolicy: definitionPolicy.optional(),
      replicaPlaintext: replicaPlaintext.optional(),
      includeDisks: z
        .array(z.string().min(1))
        .optional()
        .describe(
          'targets of disks of the VM that are to be replicated from now on, too: each is copied, the others are not; ' +
            'until that is done there are no new recovery points',
        ),
      excludeDisks: z
        .array(z.string().min(1))
        .optional()
        .describe(
          'targets of disks that are left out: of one that was added to the VM nothing warns any more; one that is replicated, attached ' +
            'or not, is in no recovery point from the next one on, and older ones keep it; the copy of one that was to be taken along is given up',
        ),
    }),
    result: ReplicationView,
    errors: ['not-found', 'wrong-role', 'wrong-state', 'disk-unsupported', 'disk-encrypted', 'busy', 'unreachable'],
  }),
  replicationSuspend: operation({
    summary: 'Pause replication, or a comparison, on either host: changes are recorded, not sent',
    description:
      'On the primary: nothing is read or sent. On the Replica server: it takes no logs, says so, and the primary goes on by itself once ' +
      'it is resumed there. Nothing but change bitmaps is kept meanwhile, however long it lasts; recovery points stay usable on both.',
    method: 'POST',
    path: '/replications/:ref/suspend',
    input: onlyRef,
    result: ReplicationView,
    errors: ['not-found', 'wrong-state', 'busy'],
  }),
  replicationResume: operation({
    summary: 'Go on after a pause, on the host that was asked for it; a comparison goes on where it was',
    method: 'POST',
    path: '/replications/:ref/resume',
    input: onlyRef,
    result: ReplicationView,
    errors: ['not-found', 'wrong-state', 'busy'],
  }),
  replicationResync: operation({
    summary: 'Compare both sides block by block and send what differs',
    description:
      'It begins at once, whatever `autoResync` says, also when replication is suspended. `copy` shows how far it is. Recovery points stay usable.',
    method: 'POST',
    path: '/replications/:ref/resync',
    input: onlyRef,
    result: ReplicationView,
    errors: ['not-found', 'wrong-role', 'wrong-state', 'busy', 'unreachable'],
  }),
  replicationCancelResync: operation({
    summary: 'Give a comparison up: it begins again only when somebody asks for it',
    description:
      'Nothing more is read or sent until then; what was sent stays, and recovery points stay usable. To stop it for a while and go on ' +
      'where it was, suspend replication instead.',
    method: 'POST',
    path: '/replications/:ref/cancel-resync',
    input: onlyRef,
    result: ReplicationView,
    errors: ['not-found', 'wrong-role', 'wrong-state', 'busy'],
  }),
  replicationVerify: operation({
    summary: 'Compare all that both sides hold, now',
    description:
      'Asked on the primary. Each side reads its own disks; what differs is named in events, and sent again. Answers when it has ' +
      'begun; `verification` shows how far it is. A restart goes on where it was.',
    method: 'POST',
    path: '/replications/:ref/verify',
    input: onlyRef,
    result: ReplicationView,
    errors: ['not-found', 'wrong-role', 'wrong-state', 'busy'],
  }),
  replicationDrift: operation({
    summary: "Compare the Replica VM's definition with its primary's, and with what its host offers",
    description:
      'Asked on the Replica server. Its answer is of now: the definition that the primary has told last, as it would be on this host, beside ' +
      'the one that the Replica VM has; and networks, bridges, machine type, CPU model and firmware files that this host lacks.',
    method: 'GET',
    path: '/replications/:ref/drift',
    input: onlyRef,
    result: DriftView,
    errors: ['not-found', 'wrong-role', 'libvirt', 'libvirt-down'],
  }),
  replicationScrub: operation({
    summary: 'Read and check all that lies at rest on the Replica server, now',
    description:
      'Asked on the Replica server: disks, undo logs and received logs, against their digests. What is damaged is named in events; blocks ' +
      'are sent again by the primary, recovery points that are not whole are marked. Answers when it has begun.',
    method: 'POST',
    path: '/replications/:ref/scrub',
    input: onlyRef,
    result: ReplicationView,
    errors: ['not-found', 'wrong-role', 'wrong-state', 'busy'],
  }),
  replicationRemove: operation({
    summary: 'End a relationship: tracking, Replica VM, recovery points and replica disks go',
    description:
      'The VM itself and its disks are never touched on the primary. A peer that cannot be reached is told later, or ' +
      'by running this there.',
    method: 'DELETE',
    path: '/replications/:ref',
    input: z.strictObject({
      ref,
      keepDisks: z.boolean().default(false).describe('keep the disks of the replica, as they are'),
    }),
    result: NOTHING,
    errors: ['not-found', 'wrong-state', 'busy', 'libvirt', 'libvirt-down'],
  }),
};
