/** What tells one definition of a VM from another, by the facts in them (`Hypervisor.factsOf`). */

/** Whether a Replica VM's definition follows the primary's, or keeps what its own administrator has made of it. */
export type DefinitionPolicy = 'follow' | 'keep';
export const DEFINITION_POLICIES = ['follow', 'keep'] as const satisfies readonly DefinitionPolicy[];
export const DEFAULT_DEFINITION_POLICY: DefinitionPolicy = 'follow';

export interface DefinitionChange {
  /** Its place in the definition. */
  readonly what: string;
  /** Null: it wasn't there. */
  readonly before: string | null;
  /** Null: it isn't there any more. */
  readonly after: string | null;
}

type Facts = Readonly<Record<string, string>>;

/** What is the VM's as a whole first, then what is deeper inside. */
export function definitionChanges(before: Facts, after: Facts): DefinitionChange[] {
  return [...new Set([...Object.keys(before), ...Object.keys(after)])]
    .filter((what) => before[what] !== after[what])
    .toSorted((a, b) => depth(a) - depth(b) || (a < b ? -1 : 1))
    .map((what) => ({ what, before: before[what] ?? null, after: after[what] ?? null }));
}

const depth = (what: string): number => what.split('/').length;

/** The first of them in words, and how many more there are. */
export function changesText(changes: readonly DefinitionChange[], most = 4): string {
  const told = changes.slice(0, most).map(changeText);
  const more = changes.length - told.length;
  return more === 0 ? told.join(', ') : `${told.join(', ')} and ${more} more`;
}

/** `memory 524288 → 1048576`. */
export function changeText({ what, before, after }: DefinitionChange): string {
  if (before === null) return after === '' ? `${what} new` : `${what} ${after} new`;
  if (after === null) return `${what} gone`;
  return `${what} ${before} → ${after}`;
}
