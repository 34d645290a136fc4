/** Power losses at random moments of a trace: what is left each time is put in its place and looked at. */
import type { Operation } from './trace.ts';
import { restore, VolatileDisk, type Loss } from './volatile-disk.ts';

const KINDS: readonly Loss[] = ['all', 'some', 'some', 'some', 'ordered', 'names', 'data'];

export interface LossOptions {
  readonly root: string;
  readonly operations: readonly Operation[];
  readonly random: () => number;
  readonly losses: number;
  /** Syncs that are taken no notice of. */
  readonly ignored?: (path: string) => boolean;
  /** Looks at what is left. `said`: what the program had said before the loss, oldest first. */
  readonly check: (said: readonly string[]) => Promise<void>;
}

/** Throws at the first loss after which something is wrong, and says which. */
export async function losePower(options: LossOptions): Promise<void> {
  const { root, operations, random, check } = options;
  const disk = new VolatileDisk(root, options.ignored);
  const said: string[] = [];
  let taken = 0;
  for (const moment of moments(options)) {
    for (; taken < moment; taken++) {
      const operation = operations[taken]!;
      disk.take(operation);
      if (operation.kind === 'said' && operation.text.startsWith('said ')) said.push(operation.text.slice(5));
    }
    const loss = KINDS[Math.floor(random() * KINDS.length)]!;
    restore(root, disk.afterLoss(loss, random));
    try {
      await check(said);
    } catch (cause) {
      const last = operations
        .slice(Math.max(0, taken - 4), taken)
        .map(describe)
        .join('; ');
      const story = `power lost after operation ${moment} of ${operations.length} (${last}), losing ${loss}; said: ${said.join(', ')}`;
      throw new Error(`${(cause as Error).message}\n${story}`, { cause });
    }
  }
}

/** Half of them anywhere, half just around a sync or a change of names: there something may be in the wrong order. */
function moments({ operations, random, losses }: LossOptions): number[] {
  const decisive = [...operations.keys()].filter((i) =>
    ['sync', 'rename', 'remove', 'said'].includes(operations[i]!.kind),
  );
  const near = () => decisive[Math.floor(random() * decisive.length)]! + Math.floor(random() * 2);
  const anywhere = () => 1 + Math.floor(random() * operations.length);
  return Array.from({ length: losses }, (_, i) => (i % 2 === 0 ? near() : anywhere())).toSorted((a, b) => a - b);
}

function describe(operation: Operation): string {
  return operation.kind === 'said' ? operation.text : `${operation.kind} ${operation.path}`;
}
