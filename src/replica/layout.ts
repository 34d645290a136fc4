/**
 * Where the parts of one replica lie:
 *
 * ```
 * replica.json                    what it is and where it stands (record.ts)
 * disks/<target>.qcow2            flat disks: the latest applied state
 * digests/<target>.digests        what is known of a flat disk's blocks (image-digests.ts); may be lost
 * inbox/<sequence>-<logId>.part   a log that is being received
 * inbox/<sequence>-<logId>.log    a log that is whole, durable and acknowledged, and not yet applied
 * inbox/<sequence>-<logId>.lost   one that was found damaged, until what was written of it is taken back
 * undo/<sequence>.undo            takes the state of that sequence back to an older one: the one before it, or, merged, further
 * undo/<sequence>.merge           that one and its older neighbour, while they are being merged
 * damaged/<sequence>.undo         undo logs that can't be read, and older ones: of no use but to somebody who mends them
 * damaged/<target>.qcow2          an image that can't be read any more: another one has taken its place (lost-image.ts)
 * views/<view>/                   names of an open view for the undo logs that it reads (held-logs.ts)
 * ```
 *
 * Sequences are padded, so that names sort as the logs follow each other. The directories on the way to the disks let
 * others pass (0711): QEMU runs as its own user. All else is ours alone.
 */
import { chmod, mkdir } from 'node:fs/promises';
import { join } from 'node:path';

const DIGITS = 16;

function padded(sequence: number): string {
  return String(sequence).padStart(DIGITS, '0');
}

/** Name of a file in the inbox, taken apart. */
export interface InboxName {
  readonly sequence: number;
  readonly logId: string;
  readonly whole: boolean;
}

export function parseInboxName(name: string): InboxName | undefined {
  const match = /^(\d{16})-([0-9a-f]{32})\.(part|log)$/.exec(name);
  if (match === null) return undefined;
  return { sequence: Number(match[1]), logId: match[2]!, whole: match[3] === 'log' };
}

/** Of a log in the inbox that was found damaged: what it is called then. */
export function lostName(path: string): string {
  return path.replace(/\.log$/, '.lost');
}

/** Sequence in the name of a log that was lost. */
export function parseLostName(name: string): number | undefined {
  const match = /^(\d{16})-[0-9a-f]{32}\.lost$/.exec(name);
  return match === null ? undefined : Number(match[1]);
}

/** Sequence in the name of an undo log. */
export function parseUndoName(name: string): number | undefined {
  const match = /^(\d{16})\.undo$/.exec(name);
  return match === null ? undefined : Number(match[1]);
}

export class ReplicaLayout {
  readonly directory: string;
  readonly record: string;
  readonly disks: string;
  readonly digestFiles: string;
  readonly inbox: string;
  readonly undo: string;
  readonly views: string;
  readonly damaged: string;

  constructor(directory: string) {
    this.directory = directory;
    this.record = join(directory, 'replica.json');
    this.disks = join(directory, 'disks');
    this.digestFiles = join(directory, 'digests');
    this.inbox = join(directory, 'inbox');
    this.undo = join(directory, 'undo');
    this.views = join(directory, 'views');
    this.damaged = join(directory, 'damaged');
  }

  async make(): Promise<void> {
    for (const [path, mode] of [
      [this.directory, 0o711],
      [this.disks, 0o711],
      [this.digestFiles, 0o700],
      [this.inbox, 0o700],
      [this.undo, 0o700],
    ] as const) {
      await mkdir(path, { recursive: true, mode });
      await chmod(path, mode); // mkdir's mode is cut by the umask
    }
  }

  disk(target: string): string {
    return join(this.disks, `${target}.qcow2`);
  }

  digests(target: string): string {
    return join(this.digestFiles, `${target}.digests`);
  }

  part(sequence: number, logId: string): string {
    return join(this.inbox, `${padded(sequence)}-${logId}.part`);
  }

  received(sequence: number, logId: string): string {
    return join(this.inbox, `${padded(sequence)}-${logId}.log`);
  }

  undoLog(sequence: number): string {
    return join(this.undo, `${padded(sequence)}.undo`);
  }

  merging(sequence: number): string {
    return join(this.undo, `${padded(sequence)}.merge`);
  }
}
