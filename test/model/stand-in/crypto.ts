/** Stands in for `node:crypto`: names are counted, so that runs can be repeated. */
import { onStage } from '../stage.ts';
import { stateName, uuid } from '../world.ts';

export function randomUUID(): string {
  return uuid(onStage().run.name());
}

export function randomBytes(): Buffer {
  return Buffer.from(stateName(onStage().run.name(), null), 'hex');
}
