import { lstat, mkdir, unlink } from 'node:fs/promises';
import { connect } from 'node:net';
import { dirname } from 'node:path';
import { Failure } from '../model/failure.ts';

/** Bytes of a unix socket's path that Linux takes. */
const MAX_PATH_BYTES = 107;

/**
 * Makes room for listening at `path`: creates the parent directory (0755) and removes a socket that nobody listens on.
 * Failures: `already-exists` when somebody does, or when something else is there; `bad-config` for a path too long.
 */
export async function clearSocketPath(path: string): Promise<void> {
  if (Buffer.byteLength(path) > MAX_PATH_BYTES) {
    throw new Failure('bad-config', `The socket path ${path} is longer than ${MAX_PATH_BYTES} bytes`);
  }
  await mkdir(dirname(path), { recursive: true, mode: 0o755 });
  let isSocket: boolean;
  try {
    isSocket = (await lstat(path)).isSocket();
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  if (!isSocket) {
    throw new Failure('already-exists', `${path} is not a socket`, { hint: 'Remove it, or name another socket.' });
  }
  if (await isAnswered(path)) {
    throw new Failure('already-exists', `Another understudyd listens on ${path}`, {
      hint: 'Stop it first, or give this one another socket and state directory.',
    });
  }
  await unlink(path);
}

function isAnswered(path: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const probe = connect(path);
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') resolve(false);
      else reject(error);
    });
  });
}
