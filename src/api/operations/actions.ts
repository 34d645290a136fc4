import * as z from 'zod';
import { ref } from '../input.ts';
import { operation, streaming } from '../operation.ts';
import { ActionView } from '../resources.ts';

const action = z.string().min(1).describe('id of the action');

export const actionOperations = {
  actionList: operation({
    summary: 'List the actions under way and those that ended lately, newest first',
    method: 'GET',
    path: '/actions',
    input: z.strictObject({ ref: ref.optional() }),
    result: z.array(ActionView),
    errors: ['not-found'],
  }),
  actionShow: operation({
    summary: 'Show an action: its steps and what came of it',
    method: 'GET',
    path: '/actions/:action',
    input: z.strictObject({ action }),
    result: ActionView,
    errors: ['not-found'],
  }),
  actionWatch: streaming({
    summary: 'Follow an action to its end',
    description: 'The first item is its present state; the last one is `done` or `undone`, then the stream ends.',
    method: 'GET',
    path: '/streams/actions/:action',
    input: z.strictObject({ action }),
    result: ActionView,
    errors: ['not-found'],
  }),
};
