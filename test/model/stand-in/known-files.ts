/** Stands in for `node:fs/promises` where the primary keeps what it knows of the replica. */
import { lifeAt } from '../stage.ts';

export async function rm(path: string): Promise<void> {
  const life = lifeAt(path);
  if (life.here.known === null) return;
  life.effect('forget what it knows of the replica');
  life.here.known = null;
}

export async function mkdir(): Promise<void> {
  // directories are no part of the world
}
