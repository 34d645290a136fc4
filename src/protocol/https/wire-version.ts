/** Which version of the wire two hosts speak: the newest that both know. */
import { Failure } from '../../model/failure.ts';

/** One side of the wire, as messages name it. */
export interface Speaker {
  readonly name: string;
  /** Version of its software. */
  readonly version: string;
  /** Versions of the wire that it speaks. */
  readonly wires: readonly number[];
}

/** Failure `format-unknown` where there is none, naming both and the one to upgrade. */
export function commonWire(ours: Speaker, theirs: Speaker): number {
  const common = ours.wires.filter((wire) => theirs.wires.includes(wire));
  if (common.length > 0) return Math.max(...common);
  const older = Math.max(...ours.wires) < Math.max(...theirs.wires) ? ours : theirs;
  throw new Failure(
    'format-unknown',
    `${described(ours)} and ${described(theirs)} have no version of the wire in common`,
    {
      hint: `Upgrade understudy on ${older.name}; replication goes on by itself then.`,
    },
  );
}

/** The version that a request names, or Failure `format-unknown` naming both sides. */
export function requireWire(named: string | undefined, wires: readonly number[]): void {
  if (wires.some((wire) => String(wire) === named)) return;
  const spoken = wires.join(', ');
  throw new Failure('format-unknown', `The request speaks wire version ${named ?? 'none'}, this host ${spoken}`, {
    hint: 'Upgrade understudy on the host with the older version.',
  });
}

function described({ name, version, wires }: Speaker): string {
  return `${name} (understudy ${version}, wire version ${wires.join(', ')})`;
}
