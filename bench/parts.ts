/** All parts, in the order in which they run. */
import type { Part } from './part.ts';
import { increment } from './parts/increment.ts';

export const PARTS: readonly Part[] = [increment];
