/** How far a replica's scrub is: passes over all that lies at rest. Part of its record. */
import { z } from 'zod';

const count = z.number().int().min(0);

export const scrubSchema = z.strictObject({
  /** The pass under way. Disks come first, in their order; then logs. */
  pass: z
    .strictObject({
      /** ms since the epoch. */
      began: count,
      /** Index of the disk, and the block, that come next. */
      disk: count,
      block: count,
      /** Undo logs up to this sequence have been looked at; null: none yet. */
      undo: count.nullable(),
    })
    .nullable(),
  /** The last whole pass, ms since the epoch. */
  last: z.strictObject({ began: count, ended: count }).nullable(),
  /** Damage found, over all passes. */
  found: count,
});
export type ScrubRecord = z.infer<typeof scrubSchema>;

export const NO_SCRUB: ScrubRecord = { pass: null, last: null, found: 0 };
