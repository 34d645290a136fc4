/** What another user of this host may do with a path: the kernel is asked, as that user, so that groups and access lists count. */
import { realpath } from 'node:fs/promises';
import { dirname } from 'node:path';
import { run } from './process.ts';

export interface UserIds {
  readonly uid: number;
  readonly gid: number;
}

/** `pass`: through a directory, to what lies in it. */
export type Right = 'pass' | 'read' | 'write';

export interface Ask {
  readonly path: string;
  readonly right: Right;
}

const LETTER: Readonly<Record<Right, string>> = { pass: '-x', read: '-r', write: '-w' };
const SCRIPT = 'while [ $# -gt 0 ]; do if test "$1" "$2"; then echo yes; else echo no; fi; shift 2; done';
const PATIENCE_MS = 10_000;

/**
 * The answers, in the order of the asks; of what isn't there: no. @param user undefined: this process's user.
 * Throws where nobody can be asked in that user's name: this process isn't root.
 */
export async function mayAs(user: UserIds | undefined, asks: readonly Ask[]): Promise<boolean[]> {
  const script = ['sh', '-c', SCRIPT, 'sh', ...asks.flatMap(({ path, right }) => [LETTER[right], path])];
  const [program, ...args] = user === undefined ? script : ['setpriv', ...asUser(user), ...script];
  const { stdout, stderr } = await run(program!, args, { timeoutMs: PATIENCE_MS });
  const answers = stdout.split('\n').slice(0, -1);
  if (answers.length !== asks.length)
    throw new Error(`the rights of user ${user?.uid} can't be asked: ${stderr.trim()}`);
  return answers.map((answer) => answer === 'yes');
}

/** The first directory on the way to `path`, itself included, that the user can't pass; undefined: the way is free. Throws as `mayAs`. */
export async function firstBarred(user: UserIds | undefined, path: string): Promise<string | undefined> {
  const way = wayTo(await realpath(path));
  const free = await mayAs(
    user,
    way.map((directory) => ({ path: directory, right: 'pass' })),
  );
  return way.find((_, at) => free[at] === false);
}

/** With the groups that the system's list of users gives them, as libvirt starts QEMU. */
function asUser({ uid, gid }: UserIds): string[] {
  return [`--reuid=${uid}`, `--regid=${gid}`, '--init-groups', '--'];
}

function wayTo(path: string): string[] {
  const above = dirname(path);
  return above === path ? [path] : [...wayTo(above), path];
}
