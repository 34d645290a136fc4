/** What the API shows of the replicas of a host. */
import * as z from 'zod';
import { DEFINITION_POLICIES } from '../model/definition-changes.ts';
import { FailureView } from './resources.ts';

const time = z.number().int();

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

export const DriftView = z
  .object({
    vmName: z.string(),
    policy: z.enum(DEFINITION_POLICIES),
    since: time
      .nullable()
      .describe(
        "when the primary's definition, as it is now, came to this host; null: not since replication was enabled",
      ),
    changes: z
      .array(
        z.object({
          what: z.string().describe('place in the definition'),
          primary: z
            .string()
            .nullable()
            .describe("as the primary's definition has it, for this host; null: not at all"),
          here: z.string().nullable().describe('as the Replica VM has it; null: not at all'),
        }),
      )
      .describe("in what the Replica VM's definition isn't what it would be if it followed the primary's"),
    lacking: z.array(z.string()).describe('what this host lacks to run the VM'),
  })
  .meta({
    id: 'Drift',
    description: "How far a Replica VM's definition is from its primary's, and from what its host offers.",
  });

export const SeedView = z
  .object({ id: z.string(), name: z.string(), peer: z.string().nullable() })
  .meta({ id: 'Seed', description: 'A VM of a Replica server, and the peer that may begin a replica with its disks.' });
