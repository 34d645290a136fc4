/** The state database at the start of a daemon. */
import { rename } from 'node:fs/promises';
import { asFailure } from '../model/failure.ts';
import { isDamaged, SqliteStore, type Witness } from '../store/sqlite/store.ts';

export interface OpenedStore {
  readonly store: SqliteStore;
  /** Where a damaged one was put; the store is a new one then. */
  readonly putAside: string | undefined;
}

/**
 * Opens the state database, or makes it. One that is damaged is put aside for whoever can mend it, and an empty one takes its place: what
 * the replica directories say of themselves is found again. Failures as of `SqliteStore.open`, but for damage.
 */
export async function openStore(path: string, now: number, witness?: Witness): Promise<OpenedStore> {
  try {
    return { store: SqliteStore.open(path, witness), putAside: undefined };
  } catch (error) {
    if (!isDamaged(asFailure(error))) throw error;
  }
  const putAside = `${path}.damaged-${now}`;
  for (const end of ['', '-wal', '-shm']) {
    await rename(`${path}${end}`, `${putAside}${end}`).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
  }
  return { store: SqliteStore.open(path, witness), putAside };
}
