/** The run that is on now: for the modules that stand in for files, clock and chance, which code under test imports by name. */
import type { Life, Run } from './run.ts';
import type { HostName } from './world.ts';

interface Stage {
  run: Run;
  lives: Partial<Record<HostName, Life>>;
}

let stage: Stage | undefined;

export function setStage(run: Run): void {
  stage = { run, lives: {} };
}

export function onStage(): Stage {
  if (stage === undefined) throw new Error('nothing is being explored');
  return stage;
}

/** Paths begin with the host's name. */
export function lifeAt(path: string): Life {
  const life = onStage().lives[path[1] as HostName];
  if (life === undefined) throw new Error(`${path} belongs to no host`);
  return life;
}
