/** The command `understudy`. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 the daemon can't be reached. */
import { CommanderError } from 'commander';
import { asFailure } from '../model/failure.ts';
import { DaemonUnreachable } from './client.ts';
import { createProgram } from './program.ts';

process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0); // whoever read our output has seen enough
  throw error;
});

process.exitCode = await main(process.argv.slice(2));

async function main(args: readonly string[]): Promise<number> {
  try {
    await createProgram().parseAsync(args, { from: 'user' });
    return 0;
  } catch (error) {
    if (error instanceof CommanderError) return error.exitCode === 0 ? 0 : 2; // it has said everything already
    const failure = asFailure(error);
    process.stderr.write(`error: ${failure.message}\nhint: ${failure.hint}\n`);
    if (error instanceof DaemonUnreachable) return 3;
    return failure.code === 'bad-request' ? 2 : 1;
  }
}
