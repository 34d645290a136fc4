import type { Readable } from 'node:stream';
import { Failure } from '../model/failure.ts';

/** Items of a stream of server-sent events, parsed. Failure: the one the stream ends with, or `interrupted`. */
export async function* readEventStream(source: Readable): AsyncGenerator<unknown, void> {
  let rest = '';
  try {
    for await (const chunk of source.setEncoding('utf8')) {
      const blocks = (rest + (chunk as string)).split('\n\n');
      rest = blocks.pop() ?? '';
      for (const block of blocks) {
        const { event, data } = parseBlock(block);
        if (event === 'item') yield JSON.parse(data);
        if (event === 'end') return;
        if (event === 'failure') throw Failure.fromJson(JSON.parse(data) as { code: string; message: string });
      }
    }
  } catch (error) {
    if (error instanceof Failure) throw error;
    throw new Failure('interrupted', 'The connection to understudyd broke', { cause: error, hint: RESTARTED });
  }
  throw new Failure('interrupted', 'understudyd ended the stream', { hint: RESTARTED });
}

const RESTARTED = 'If it is being restarted: what was asked for goes on by itself. Run the command again to follow it.';

function parseBlock(block: string): { event: string; data: string } {
  const fields = { event: 'message', data: '' };
  for (const line of block.split('\n')) {
    const match = /^(event|data): ?(.*)$/.exec(line);
    if (match !== null) fields[match[1] as 'event' | 'data'] = match[2] ?? '';
  }
  return fields;
}
