/** What is told when the demo fails. */
import { readFileSync } from 'node:fs';
import { asFailure } from '../src/model/failure.ts';
import type { HostDaemon } from '../lab/daemons/host-daemon.ts';
import { VM, type Scene } from './scene.ts';
import type { Screen } from './screen.ts';

const WARNING = 40;
const LAST = 8;

export function tellFailure(screen: Screen, error: unknown): void {
  const failure = asFailure(error);
  screen.line();
  screen.line(screen.paint('red', `FAILED  ${failure.message}`));
  screen.line(`        ${failure.hint}`);
  if (failure.code === 'internal' && error instanceof Error) screen.line(screen.paint('dim', error.stack ?? ''));
}

/** What both hosts said last. */
export function tellLastWords(screen: Screen, scene: Scene): void {
  screen.line();
  for (const daemon of [scene.a, scene.b]) {
    screen.line(`Last warnings of understudyd on ${daemon.host.name}:`);
    for (const text of lastWarnings(daemon)) screen.quote(text);
    screen.line('Last words of QEMU there:');
    for (const text of lastLines(daemon.host.path(`/var/log/libvirt/qemu/${VM}.log`))) screen.quote(text);
  }
}

function lastLines(path: string): string[] {
  const log = readLog(path);
  // libvirt begins each life with the whole command line: each of its lines is continued
  return log.filter((line) => line !== '' && !line.endsWith('\\')).slice(-LAST);
}

/** Its last log lines that are warnings or worse. */
function lastWarnings(daemon: HostDaemon): string[] {
  const warnings = readLog(daemon.logFile)
    .map(readWarning)
    .filter((text) => text !== undefined);
  return warnings.length === 0 ? ['none'] : warnings.slice(-LAST);
}

function readLog(path: string): string[] {
  try {
    return readFileSync(path, 'utf8').split('\n');
  } catch (error) {
    return [asFailure(error).message]; // nothing was started there
  }
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
