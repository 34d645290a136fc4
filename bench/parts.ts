/** All parts, in the order in which they run. */
import type { Part } from './part.ts';
import { apply } from './parts/apply.ts';
import { failover } from './parts/failover.ts';
import { guest } from './parts/guest.ts';
import { idle } from './parts/idle.ts';
import { increment } from './parts/increment.ts';
import { initialCopy } from './parts/initial-copy.ts';
import { job } from './parts/job.ts';
import { longLink } from './parts/long-link.ts';
import { scale } from './parts/scale.ts';
import { view } from './parts/view.ts';
import { wire } from './parts/wire.ts';

export const PARTS: readonly Part[] = [
  initialCopy,
  increment,
  job,
  idle,
  apply,
  view,
  wire,
  guest,
  scale,
  failover,
  longLink,
];
