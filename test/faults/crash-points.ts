/**
 * Every named place at which a test kills the daemon, in the order in which they are passed. crash-points.test.ts fails for
 * one in the code that is missing here; the tests take them from here.
 */

/** In receiving and applying a log at the replica. */
export const IN_RECEIVING_AND_APPLYING = [
  'replica:received',
  'replica:acknowledged',
  'replica:apply',
  'replica:undo-written',
  'replica:undo-durable',
  'replica:undo-final',
  'replica:published',
  'replica:writing',
  'replica:sourced',
  'replica:written',
  'replica:digesting',
  'replica:flushed',
  'replica:recorded',
  'replica:discarded',
  'replica:retired',
] as const;

/** In giving the images of a replica another shape, before a log is written to them and after it. */
export const IN_A_RESHAPE = ['replica:reshaping', 'replica:reshaped', 'replica:widened', 'replica:cut'] as const;

/** In emptying the images of disks that are gone, once no point has them any more. */
export const IN_DROPPING_A_DISK = ['replica:emptying', 'replica:emptied'] as const;

/** In giving a log up that is damaged, and taking back what was written of it. */
export const IN_GIVING_UP = ['replica:given-up', 'replica:taken-back'] as const;

/** In making an image anew that can't be read any more. */
export const IN_MAKING_ANEW = ['replica:points-lost', 'replica:made-anew'] as const;

/** In merging two undo logs. */
export const IN_MERGING = [
  'replica:merge',
  'replica:merge-written',
  'replica:merge-durable',
  'replica:merge-final',
  'replica:merged',
] as const;

/** In making the overlays of a point. */
export const IN_MATERIALISING = [
  'replica:overlay-made',
  'replica:materialising',
  'replica:overlays-written',
  'replica:materialised',
] as const;

/** In removing a replica's files. */
export const IN_REMOVING = ['replica:record-removed'] as const;

/** In a cycle at the primary. */
export const IN_A_CYCLE = [
  'cycle:intended',
  'cycle:opened',
  'cycle:reading',
  'cycle:read',
  'cycle:closed',
  'cycle:acknowledged',
  'known:forgotten',
  'known:reached',
  'acknowledged:stored',
  'acknowledged:dropped',
] as const;

/** In making a captured log thinner before it is sent. */
export const IN_THINNING = ['thin:asked', 'thin:written', 'thin:recorded'] as const;

/** In a cycle in which all that was written is what was there before. */
export const IN_AN_UNCHANGED_CYCLE = ['cycle:unchanged'] as const;

/** In taking a disk along that was added, before its copy. */
export const IN_JOINING = ['joining:tracked', 'joining:begun'] as const;

/** In letting go of a disk that is in no recovery point from then on. */
export const IN_LEAVING = ['leaving:noted'] as const;

/** In copying whole disks, slice by slice. */
export const IN_A_COPY = ['copy:untracked', 'copy:tracked', 'slice:opened', 'slice:acknowledged'] as const;

/** In the plan of an action: their names are the plan's kind, where it says so the step, and these. */
export const IN_A_PLAN = {
  forward: ['begun'],
  ofStep: ['before', 'after', 'written'],
  back: ['undoing'],
  ofStepBack: ['undo-before', 'undo-after', 'undo-written'],
} as const;
