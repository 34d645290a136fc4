/** Fields of inputs that several operations share. */
import * as z from 'zod';
import { AUTO_RESYNC_PATTERN } from '../model/auto-resync.ts';
import { DEFINITION_POLICIES } from '../model/definition-changes.ts';
import { LEASE_SECONDS } from '../model/lease.ts';
import { READ_LIMIT } from '../model/read-limit.ts';

export const ref = z
  .string()
  .min(1)
  .describe('id of a relationship, or name or id of its VM; a VM with several relationships is named by their ids');

export const intervalSeconds = z.int().min(5).max(86_400).describe('seconds from one cycle to the next');

export const history = z.int().min(0).max(10_000).describe('recovery points kept besides the latest');

export const thin = z
  .array(
    z.strictObject({
      everySeconds: z
        .int()
        .min(60)
        .max(366 * 86_400)
        .describe('length of a period in seconds; 3600: hours (UTC)'),
      count: z.int().min(1).max(10_000).describe('of so many periods that have points'),
    }),
  )
  .max(16)
  .describe('beyond the newest ones: the newest recovery point of each of the newest periods');

export const leaseSeconds = z
  .union([z.literal(0), z.int().min(LEASE_SECONDS.min).max(LEASE_SECONDS.max)])
  .describe(
    'fence: without an answer of the Replica server for so many seconds the primary stops the VM, and a failover without contact ' +
      'waits until it surely has: two never run, and a lost link stops the guest. 0: no lease, the guest runs on',
  );

export const readBytesPerSecond = z
  .union([z.literal(0), z.int().min(READ_LIMIT.leastBytesPerSecond)])
  .describe(
    "bytes that are read of the VM's disks a second at most, on the primary, for cycles, copies and comparisons alike: its guest " +
      'hardly notices, points in time are held open for longer, and the last cycle of a planned failover takes longer; at least 1 MiB. 0: no limit',
  );

export const readIops = z
  .union([z.literal(0), z.int().min(READ_LIMIT.leastIops)])
  .describe('the same, in reads a second, each of at most 1 MiB; at least 10. 0: no limit');

export const autoResync = z
  .string()
  .regex(AUTO_RESYNC_PATTERN, 'always, never, or a window of the day: 18:30-06:00')
  .describe(
    'when a comparison begins that has become necessary (a bitmap is lost, a replica was restored): always: at once; never: when ' +
      'somebody asks for it; a window like 18:30-06:00, local time of the primary, may pass midnight: it begins in it',
  );

export const definitionPolicy = z
  .enum(DEFINITION_POLICIES)
  .describe(
    "follow: the Replica VM's definition becomes what the primary's is, whenever that changes; keep: it stays as its own administrator " +
      "wants it, and the primary's changes are reported. Left out: as it was, at first follow",
  );

export const replicaPlaintext = z
  .boolean()
  .describe(
    'encrypted disks are replicated, too. What is read of them is plain text, and stored as such: on the Replica server in its disks, ' +
      "recovery points and received logs, on this host in the outbox and in a point's scratch files. Without it such disks are refused",
  );

export const point = z.int().min(0).describe('sequence of a recovery point, as the list of points gives it');

export const nothing = z.strictObject({});

export const onlyRef = z.strictObject({ ref });
