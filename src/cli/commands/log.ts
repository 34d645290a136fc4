import { resolve } from 'node:path';
import type { Command } from 'commander';
import { Failure } from '../../model/failure.ts';
import { inspectLog, type InspectedFrame } from '../inspect-log.ts';
import { frameLine, logSheet } from '../log-text.ts';
import { inSession } from '../session.ts';

export function addLogCommands(program: Command): void {
  const log = program.command('log').description('Delta logs');

  log
    .command('inspect')
    .description(
      'Verifies a delta log and says what is in it. Reads the file itself: it works without the daemon, and fails for a log that is not whole',
    )
    .argument('<file>', 'a log in the inbox/ or undo/ of a replica, or in an outbox; whole or cut off')
    .option('--frames', 'each frame, too: place in the file, kind, disk+offset, length, stored bytes')
    .action(
      inSession(async ({ output }, file: string, { frames: wanted = false }: { frames?: boolean }) => {
        const frames: InspectedFrame[] = [];
        const found = await inspectLog(resolve(file), (frame) => {
          if (!wanted) return;
          if (output.isJson) frames.push(frame);
          else output.item(frame, () => frameLine(frame));
        });
        output.result(wanted ? { ...found, listing: frames } : found, () => logSheet(output, found));
        const { problem } = found;
        if (problem !== null) throw new Failure(problem.code, problem.message, { hint: problem.hint });
      }),
    );
}
