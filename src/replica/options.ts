import type { Lanes } from '../lanes/lanes.ts';
import type { Log } from '../lib/log.ts';
import type { Failure } from '../model/failure.ts';
import type { LocalDisk } from '../store/store.ts';
import type { RoomPolicy } from './room.ts';

export interface ReplicaOptions {
  /** `<replicas>/<relationship id>` */
  readonly directory: string;
  /** For sockets and pid files; short (sockets have at most 107 bytes), and reachable for QEMU's user. */
  readonly runDirectory: string;
  /** Where the bulk work is done. */
  readonly lanes: Lanes;
  /** zstd level of undo logs, 0: as they are; 1 unless told. */
  readonly undoLevel?: number;
  /** What is done about a file system without room; see `Room`. */
  readonly room?: RoomPolicy;
  readonly log: Log;
  /** Told of a recovery point that was given up for want of room. */
  readonly onGivenUp?: (sequence: number) => void;
  /** Told the disks whenever a log has made others of them. */
  readonly onReshaped?: (disks: readonly LocalDisk[]) => void;
  /** Told when applying fails, and null when it goes on. */
  readonly onFailure?: (failure: Failure | null) => void;
  /** Told of damage that was found, in words. */
  readonly onDamage?: (text: string) => void;
}
