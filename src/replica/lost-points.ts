import { parseUndoName } from './layout.ts';
import type { RecordFile } from './record.ts';
import type { UndoChain } from './undo-chain.ts';

/**
 * Undo logs were put aside when the chain was opened. Where one of them was of a log that was just being applied, nobody can tell what the
 * disks held before it. Gives it in words.
 */
export async function withoutPoints(record: RecordFile, chain: UndoChain): Promise<string> {
  const name = chain.lost.at(-1)!;
  if (parseUndoName(name)! > record.value.applied.sequence) await record.update({ latest: null });
  return `undo log ${name} is damaged: the recovery points that need it can not be used any more; newer ones are whole`;
}
