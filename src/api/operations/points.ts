import * as z from 'zod';
import { onlyRef, point, ref } from '../input.ts';
import { operation } from '../operation.ts';
import { ActionView, PointView } from '../resources.ts';

export const pointOperations = {
  pointList: operation({
    summary: 'List the recovery points of a relationship, newest first',
    description: 'Asked on the primary, the answer comes from the Replica server.',
    method: 'GET',
    path: '/replications/:ref/points',
    input: onlyRef,
    result: z.array(PointView),
    errors: ['not-found', 'wrong-role', 'unreachable', 'timeout'],
  }),
  pointExport: operation({
    summary: 'Write one disk of a recovery point to a file (on the Replica server)',
    method: 'POST',
    path: '/replications/:ref/points/:point/export',
    input: z.strictObject({
      ref,
      point,
      disk: z.string().min(1).describe('target of the disk: vda'),
      file: z
        .string()
        .regex(/^\//, 'must be an absolute path')
        .describe('absolute path on the host of the daemon; must not exist'),
      format: z.enum(['qcow2', 'raw']).default('qcow2'),
      damaged: z.boolean().optional().describe('also where it is known to hold damaged bytes, as it is'),
    }),
    result: ActionView,
    errors: ['not-found', 'already-exists', 'wrong-role', 'point-damaged', 'disk-engine', 'no-space', 'io'],
  }),
};
