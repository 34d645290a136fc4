import { pino, type Logger } from 'pino';

export type Log = Logger;

/** Structured logs, one JSON object a line, on standard error (journald or a file takes it from there). */
export function createLog(options: { level: string; component: string }): Log {
  return pino(
    { level: options.level, base: { component: options.component }, timestamp: pino.stdTimeFunctions.isoTime },
    pino.destination({ dest: 2, sync: true }),
  );
}

/** A log that says nothing: for tests and tools. */
export function silentLog(): Log {
  return pino({ level: 'silent' });
}
