/** What is told when the demo fails. */
import { readFileSync } from 'node:fs';
import { asFailure } from '../src/model/failure.ts';
import type { HostDaemon } from '../lab/daemons/host-daemon.ts';
import type { Scene } from './scene.ts';
import type { Screen } from './screen.ts';

const WARNING = 40;
const LAST = 8;

export function tellFailure(screen: Screen, error: unknown, scene: Scene | undefined): void {
  const failure = asFailure(error);
  screen.line();
  screen.line(screen.paint('red', `FAILED  ${failure.message}`));
  screen.line(`        ${failure.hint}`);
  if (failure.code === 'internal' && error instanceof Error) screen.line(screen.paint('dim', error.stack ?? ''));
  if (scene === undefined) return;
  for (const daemon of [scene.a, scene.b]) {
    screen.line(`Last warnings of understudyd on ${daemon.host.name}:`);
    for (const text of lastWarnings(daemon)) screen.quote(text);
  }
}

/** Its last log lines that are warnings or worse. */
function lastWarnings(daemon: HostDaemon): string[] {
  let log: string;
  try {
    log = readFileSync(daemon.logFile, 'utf8');
  } catch (error) {
    return [`no log: ${asFailure(error).message}`]; // it never started
  }
  const warnings = log
    .split('\n')
    .map(readWarning)
    .filter((text) => text !== undefined);
  return warnings.length === 0 ? ['none'] : warnings.slice(-LAST);
}

function readWarning(line: string): string | undefined {
  if (!line.startsWith('{')) return line === '' ? undefined : line; // words of Node itself
  const { level, time, msg, err } = JSON.parse(line) as {
    level: number;
    time: string;
    msg: string;
    err?: { message: string };
  };
  return level < WARNING ? undefined : `${time.slice(11, 23)} ${msg}${err === undefined ? '' : `: ${err.message}`}`;
}
