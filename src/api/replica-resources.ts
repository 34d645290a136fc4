/** What the API shows of the replicas of a host. */
import * as z from 'zod';
import { FailureView } from './resources.ts';

export const RescannedView = z
  .object({
    id: z.string().describe('of the relationship'),
    vmName: z.string().nullable(),
    peer: z.string().nullable().describe("the primary's host"),
    outcome: z
      .enum(['unchanged', 'rebuilt', 'vm-defined', 'failed'])
      .describe('rebuilt: the relationship is known again; vm-defined: its Replica VM was gone'),
    failure: FailureView.nullable().describe('why it could not be rebuilt, or not be opened'),
  })
  .meta({ id: 'Rescanned', description: 'What came of looking at a replica directory.' });

export const SeedView = z
  .object({ id: z.string(), name: z.string(), peer: z.string().nullable() })
  .meta({ id: 'Seed', description: 'A VM of a Replica server, and the peer that may begin a replica with its disks.' });
