/** The lane's side of a view: reads the point, and serves it by NBD on a socket of its own. */
import { once } from 'node:events';
import { chown } from 'node:fs/promises';
import type { LaneContext } from '../lanes/context.ts';
import { Failure, type FailureJson } from '../model/failure.ts';
import type { ReplicatedDisk } from '../model/relationship.ts';
import type { NbdAddress } from '../qemu/nbd/client.ts';
import { NbdServer, type NbdSource } from '../qemu/nbd/server.ts';
import { PointView } from './view.ts';
import { ViewDisks } from './view-disks.ts';

export interface ViewInput {
  readonly socketPath: string;
  /** Who may connect besides this user. */
  readonly owner?: { readonly uid: number; readonly gid: number };
  readonly disks: readonly ReplicatedDisk[];
  /** Paths of the undo logs that lead back to the point, oldest first: the view's own names for them. */
  readonly logs: readonly string[];
  /** One word of 32 bits. Once it isn't 0 the view may show wrong bytes, and shows none any more. */
  readonly fence: SharedArrayBuffer;
}

/**
 * What a view asks its owner: the exports of the flat disks, by index, or, each time that it has taken in all logs that it was told of
 * (the first time: when it is served), the paths of newer ones.
 */
export type ViewQuestion = 'disks' | 'logs';

/** Told by a view: something went wrong, and nobody else hears of it. */
export type ViewTrouble = FailureJson;

export async function serveView(input: ViewInput, context: LaneContext): Promise<void> {
  const { socketPath, owner, disks, logs } = input;
  const flat = new ViewDisks(() => context.ask<NbdAddress[]>('disks' satisfies ViewQuestion));
  const view = await PointView.open(disks, logs, flat);
  try {
    const onError = (error: Failure): void => context.tell(error.toJSON() satisfies ViewTrouble);
    const server = await NbdServer.listen({ socketPath, mode: 0o600, onError });
    try {
      if (owner !== undefined) await chown(socketPath, owner.uid, owner.gid);
      const fence = new Int32Array(input.fence);
      for (const [disk, { target, gone }] of disks.entries())
        if (gone !== true) server.addExport(target, fenced(view, disk, fence));
      await Promise.race([takeLogs(view, context), ended(context.signal)]);
    } finally {
      await flat.close();
      await server.close();
    }
  } finally {
    view.close();
  }
}

async function takeLogs(view: PointView, context: LaneContext): Promise<never> {
  for (;;) await view.publish(await context.ask<string[]>('logs' satisfies ViewQuestion));
}

async function ended(signal: AbortSignal): Promise<never> {
  if (!signal.aborted) await once(signal, 'abort');
  throw signal.reason;
}

/** A disk of the view. Looked at the fence after reading: what was read before it fell was right. */
function fenced(view: PointView, disk: number, fence: Int32Array): NbdSource {
  const check = (): void => {
    if (Atomics.load(fence, 0) !== 0) throw new Failure('interrupted', 'the view was ended: it could not follow');
  };
  return {
    size: view.disks[disk]!.size,
    read: async (offset, length) => {
      const bytes = await view.read(disk, offset, length);
      try {
        check();
      } catch (error) {
        bytes.release?.();
        throw error;
      }
      return bytes;
    },
    extents: async (offset, length) => {
      const extents = await view.extents(disk, offset, length);
      check();
      return extents;
    },
  };
}
