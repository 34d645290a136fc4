/** Fields of inputs that several operations share. */
import * as z from 'zod';

export const ref = z
  .string()
  .min(1)
  .describe('id of a relationship, or name or id of its VM; a VM with several relationships is named by their ids');

export const intervalSeconds = z.int().min(5).max(86_400).describe('seconds from one cycle to the next');

export const history = z.int().min(0).max(10_000).describe('recovery points kept besides the latest');

export const point = z.int().min(0).describe('sequence of a recovery point, as the list of points gives it');

export const nothing = z.strictObject({});

export const onlyRef = z.strictObject({ ref });
