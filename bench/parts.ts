/** All parts, in the order in which they run. */
import type { Part } from './part.ts';
import { apply } from './parts/apply.ts';
import { increment } from './parts/increment.ts';
import { initialCopy } from './parts/initial-copy.ts';
import { job } from './parts/job.ts';
import { wire } from './parts/wire.ts';

export const PARTS: readonly Part[] = [initialCopy, increment, job, apply, wire];
