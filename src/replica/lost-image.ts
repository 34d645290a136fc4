/**
 * The image of a disk that can't be read any more, not even by who mends images, is made anew, empty: the primary finds the replica in a
 * state that it doesn't know, compares both sides, and sends what the disk holds. Undo logs lead back from what was in the image: with it all
 * recovery points are lost, and none may be shown.
 */
import { randomBytes } from 'node:crypto';
import { chmod, chown, link, rename, rm, stat, statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { makeDirectory, syncDirectory } from '../lib/atomic-file.ts';
import { crashPoint } from '../lib/crash-point.ts';
import type { Gate } from '../lib/gate.ts';
import { createImage } from '../qemu/image.ts';
import type { LocalDisk } from '../store/store.ts';
import { NO_DAMAGE } from './damage.ts';
import type { Digests } from './digests.ts';
import type { Inbox } from './inbox.ts';
import type { ReplicaLayout } from './layout.ts';
import type { RecordFile } from './record.ts';
import type { UndoChain } from './undo-chain.ts';
import type { Views } from './views.ts';

export interface LostImageParts {
  readonly layout: ReplicaLayout;
  readonly record: RecordFile;
  readonly inbox: Inbox;
  readonly chain: UndoChain;
  readonly digests: Digests;
  readonly views: Views;
  /** Held while undo logs come and go. */
  readonly publishing: Gate;
}

export interface MadeAnew {
  /** Sequences of the recovery points that went with the image. */
  readonly points: readonly number[];
  /** Where the old image is kept; undefined where there was no ample room. */
  readonly kept: string | undefined;
}

/**
 * Makes the image of a disk anew. While nothing is applied, and nobody has the images open. The points go first: cut by a crash, it begins
 * again with an image that still can't be read.
 */
export async function makeAnew(disk: number, parts: LostImageParts): Promise<MadeAnew> {
  const { layout, record, inbox, chain, digests, views, publishing } = parts;
  const { applied, latest, disks } = record.value;
  const position = { ...applied, state: randomBytes(16).toString('hex') };
  const points = await publishing.run('giving all points up', async () => {
    await views.close(); // they would show what an empty disk holds
    const all = new Set([...(latest === null ? [] : [latest]), ...chain.points].map(({ sequence }) => sequence));
    await chain.putAllAside(layout);
    return [...all];
  });
  await inbox.abandon(position, `the image of ${disks[disk]!.target} was lost`);
  await record.update({ applied: position, appliedLog: null, latest: null, damage: NO_DAMAGE });
  crashPoint('replica:points-lost');
  let kept: string | undefined;
  await digests.change(disks, new Set([disk]), async () => {
    kept = await replaceImage(disks[disk]!, layout);
  });
  crashPoint('replica:made-anew');
  return { points, kept };
}

/** The old one stays only where so many times its size is free: it must not be what there is no room for the rest of. */
const AMPLE = 3;

/** The old one stays, where there is ample room: somebody may be able to mend it. */
async function replaceImage({ target, path, size }: LocalDisk, layout: ReplicaLayout): Promise<string | undefined> {
  const fresh = `${path}.new`;
  await rm(fresh, { force: true }); // of a try that was cut
  await createImage(fresh, size, { format: 'qcow2' });
  const { mode, uid, gid, blocks, dev } = await stat(path);
  await chown(fresh, uid, gid);
  await chmod(fresh, mode & 0o777);
  const { bavail, bsize } = await statfs(layout.directory);
  let kept: string | undefined;
  if (bavail * bsize > AMPLE * blocks * 512 && dev === (await stat(layout.directory)).dev) {
    kept = join(layout.damaged, `${target}.qcow2`);
    await makeDirectory(layout.damaged, 0o700);
    await rm(kept, { force: true });
    await link(path, kept);
    await syncDirectory(layout.damaged);
  }
  await rename(fresh, path);
  await syncDirectory(dirname(path));
  return kept;
}
