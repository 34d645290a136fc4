import { open, type FileHandle } from 'node:fs/promises';
import { Failure } from '../model/failure.ts';
import type { LogFile } from './endpoint.ts';

const READ_SIZE = 512 * 1024;

/** Bytes of a log from `offset` to its end, while it may still be growing. Throws when whoever writes it gives up. */
export async function* follow(
  path: string,
  offset: number,
  moreThan: LogFile['moreThan'],
): AsyncGenerator<Buffer, void, undefined> {
  let file: FileHandle | undefined;
  try {
    let at = offset;
    for (let end = await moreThan(at); end !== null; end = await moreThan(at)) {
      file ??= await open(path, 'r');
      while (at < end) {
        const buffer = Buffer.allocUnsafeSlow(Math.min(READ_SIZE, end - at));
        const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
        if (bytesRead === 0) throw new Failure('io', `${path} ends at ${at}, before ${end}`);
        at += bytesRead;
        yield buffer.subarray(0, bytesRead);
      }
    }
  } finally {
    await file?.close();
  }
}
