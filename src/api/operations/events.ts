import * as z from 'zod';
import { ref } from '../input.ts';
import { operation, streaming } from '../operation.ts';
import { EventView } from '../resources.ts';

export const eventOperations = {
  eventList: operation({
    summary: 'List events, newest first',
    method: 'GET',
    path: '/events',
    input: z.strictObject({
      ref: ref.optional(),
      before: z.int().min(0).optional().describe('only events of a lower id: the next page'),
      limit: z.int().min(1).max(1000).default(50),
    }),
    result: z.array(EventView),
    errors: ['not-found'],
  }),
  eventWatch: streaming({
    summary: 'Follow events as they happen',
    method: 'GET',
    path: '/streams/events',
    input: z.strictObject({
      ref: ref.optional(),
      after: z.int().min(0).optional().describe('first those of a higher id that happened already'),
    }),
    result: EventView,
    errors: ['not-found'],
  }),
};
