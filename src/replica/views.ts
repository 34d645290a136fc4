/**
 * The open views of a replica, each served read-only by NBD on a socket of its own: one export per disk, named by target.
 */
import { chown, unlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Log } from '../lib/log.ts';
import { asFailure } from '../model/failure.ts';
import { NbdServer } from '../qemu/nbd/server.ts';
import type { UndoLog } from './undo-chain.ts';
import type { PointView } from './view.ts';

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

interface Served {
  readonly view: PointView;
  readonly server: NbdServer;
}

export class Views {
  readonly #runDirectory: string;
  readonly #log: Log;
  readonly #served = new Set<Served>();
  #next = 1;

  constructor(options: { runDirectory: string; log: Log }) {
    this.#runDirectory = options.runDirectory;
    this.#log = options.log;
  }

  get count(): number {
    return this.#served.size;
  }

  async serve(view: PointView, owner?: SocketOwner): Promise<View> {
    const { sequence } = view;
    const socketPath = join(this.#runDirectory, `view-${this.#next++}.nbd`);
    const server = await NbdServer.listen({
      socketPath,
      mode: 0o600,
      onError: (error) => this.#log.warn({ err: error, sequence }, 'view'),
    });
    try {
      if (owner !== undefined) await chown(socketPath, owner.uid, owner.gid);
    } catch (error) {
      await server.close();
      throw error;
    }
    for (const [disk, { target, size }] of view.disks.entries()) {
      server.addExport(target, {
        size,
        read: async (offset, length) => {
          const bytes = Buffer.allocUnsafe(length);
          await view.readInto(disk, bytes, offset);
          return { parts: [bytes] };
        },
        extents: (offset, length) => view.extents(disk, offset, length),
      });
    }
    const served = { view, server };
    this.#served.add(served);
    return { sequence, socketPath, close: () => this.#end(served) };
  }

  /** Tells every view of a new undo log. One that can't take it in is ended: it would show wrong bytes. */
  async publish(log: UndoLog): Promise<void> {
    await Promise.all(
      [...this.#served].map(async (served) => {
        try {
          await served.view.publish(log);
        } catch (error) {
          if (!this.#served.has(served)) return; // its user closed it meanwhile
          const failure = asFailure(error, 'io');
          this.#log.error({ err: failure, sequence: served.view.sequence }, 'a view had to be ended');
          await this.#end(served);
        }
      }),
    );
  }

  async close(): Promise<void> {
    await Promise.all([...this.#served].map((served) => this.#end(served)));
  }

  async #end(served: Served): Promise<void> {
    if (!this.#served.delete(served)) return;
    await served.server.close();
    await unlink(served.server.socketPath).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'ENOENT') throw error;
    });
    await served.view.close();
  }
}
