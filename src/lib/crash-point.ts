/**
 * Named places at which a test may kill this process, to see what a crash there leaves. In production the variable isn't
 * set and a crash point is one comparison.
 */
const wanted = process.env['UNDERSTUDY_CRASH'];

/** Dies by SIGKILL when `UNDERSTUDY_CRASH` names this place. */
export function crashPoint(name: string): void {
  if (wanted === name) process.kill(process.pid, 'SIGKILL');
}
