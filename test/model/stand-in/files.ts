/** Stands in for `node:fs/promises` where failover overlays and the boot marker are concerned. */
import { lifeAt } from '../stage.ts';

export async function rm(path: string): Promise<void> {
  const life = lifeAt(path);
  const { images, vm } = life.here;
  if (images[path] === undefined) return;
  life.effect(`remove ${path}`);
  if (vm?.live === path) life.run.violate(`${life.host}: the overlay on which the VM runs is removed`);
  delete images[path];
}

export async function mkdir(): Promise<void> {
  // directories are no part of the world
}

export async function access(path: string): Promise<void> {
  if (!lifeAt(path).here.started) throw Object.assign(new Error(path), { code: 'ENOENT' });
}

export async function writeFile(path: string): Promise<void> {
  const life = lifeAt(path);
  if (life.here.memory.asleep) return; // in truth it waits for those that sleep
  try {
    life.effect('note that the host has started');
    life.here.started = true;
  } catch {
    // the daemon is dead, and nobody waits for this
  }
}
