/**
 * The open views of a replica, each served read-only by NBD on a socket of its own: one export per disk, named by target.
 */
import { rm, mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Lanes } from '../lanes/lanes.ts';
import type { Log } from '../lib/log.ts';
import { asFailure } from '../model/failure.ts';
import type { ReplicatedDisk } from '../model/relationship.ts';
import { shapeOf } from '../model/shape.ts';
import type { NbdAddress } from '../qemu/nbd/client.ts';
import { HeldLogs } from './held-logs.ts';
import { ServedView } from './served-view.ts';
import type { UndoLog } from './undo-chain.ts';

/** Who may connect to the sockets of views, besides this user: QEMU's own user, as a rule. */
export interface SocketOwner {
  readonly uid: number;
  readonly gid: number;
}

/** A view as its user holds it. */
export interface View {
  /** Sequence of the point that it shows. */
  readonly sequence: number;
  /** Absolute path of its NBD socket. */
  readonly socketPath: string;
  /** Ends it and its connections. Closing twice is no error. */
  close(): Promise<void>;
}

export interface ViewsOptions {
  /** For the names under which views hold undo logs: on the file system of these. */
  readonly directory: string;
  readonly runDirectory: string;
  readonly lanes: Lanes;
  /** Gives the exports of the flat disks, by index, by a storage daemon that is started if none runs. */
  readonly flatDisks: () => Promise<NbdAddress[]>;
  readonly log: Log;
}

export class Views {
  readonly #options: ViewsOptions;
  readonly #served = new Set<ServedView>();
  #next = 1;

  constructor(options: ViewsOptions) {
    this.#options = options;
  }

  get count(): number {
    return this.#served.size;
  }

  /**
   * Opens a view of the point of that sequence, which has these disks, and to which the logs lead back (oldest first). None of them may be unlinked, and
   * none published, before this resolves.
   */
  async open(
    sequence: number,
    disks: readonly ReplicatedDisk[],
    logs: readonly UndoLog[],
    owner?: SocketOwner,
  ): Promise<View> {
    const { directory, runDirectory, lanes, flatDisks, log } = this.#options;
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const name = `view-${this.#next++}`;
    const paths = logs.map(({ path }) => path);
    const held = await HeldLogs.make(join(directory, name), paths);
    const socketPath = join(runDirectory, `${name}.nbd`);
    const view = await ServedView.open({
      sequence,
      socketPath,
      held,
      disks: shapeOf(disks),
      lanes,
      flatDisks,
      log,
      ...(owner === undefined ? {} : { owner }),
    });
    this.#served.add(view);
    return { sequence, socketPath, close: () => this.#end(view) };
  }

  /** Tells every view of a new undo log. One that can't take it in is ended: it would show wrong bytes. */
  async publish(undo: UndoLog): Promise<void> {
    await Promise.all(
      [...this.#served].map(async (view) => {
        try {
          await view.publish([undo.path]);
        } catch (error) {
          if (!this.#served.has(view)) return; // its user closed it meanwhile
          const failure = asFailure(error, 'io');
          this.#options.log.error({ err: failure, sequence: view.sequence }, 'a view had to be ended');
          await this.#end(view);
        }
      }),
    );
  }

  /** Ends all; gives the room back, also what a killed process has left. */
  async close(): Promise<void> {
    await Promise.all([...this.#served].map((view) => this.#end(view)));
    await rm(this.#options.directory, { recursive: true, force: true });
  }

  async #end(view: ServedView): Promise<void> {
    if (this.#served.delete(view)) await view.close();
  }
}
