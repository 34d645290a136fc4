/**
 * Bitmaps in encrypted images that nobody has open: QEMU wants the key for it, and `qemu-img` would have it on its command line or in a
 * file, for others to read. A storage daemon is told by QMP.
 */
import { Failure } from '../model/failure.ts';
import { imageInfo } from './image.ts';
import { StorageDaemon } from './storage-daemon.ts';

export interface EncryptedImage {
  readonly path: string;
  readonly key: Uint8Array;
  /** For the daemon's run files. */
  readonly directory: string;
}

const DAEMON_NAME = 'bitmap';
const NODE = 'image';

/** Adds a persistent bitmap; it records from the next opening on. */
export async function addEncryptedBitmap(image: EncryptedImage, name: string, granularity = 65_536): Promise<void> {
  await change(image, 'block-dirty-bitmap-add', { name, granularity, persistent: true });
  await mustHave(image.path, name, true);
}

/** Removes a bitmap, usable or not. */
export async function removeEncryptedBitmap(image: EncryptedImage, name: string): Promise<void> {
  await change(image, 'block-dirty-bitmap-remove', { name });
  await mustHave(image.path, name, false);
}

async function change({ path, key, directory }: EncryptedImage, command: string, args: object): Promise<void> {
  const daemon = await StorageDaemon.start({ directory, name: DAEMON_NAME });
  try {
    await daemon.openImage({ node: NODE, path, format: 'qcow2', readOnly: false, backing: null, key });
    await daemon.qmp.execute(command, { node: NODE, ...args });
    await daemon.closeNode(NODE); // stores its bitmaps
  } finally {
    await daemon.stop();
  }
}

/** The daemon doesn't say it when it couldn't store what it was told. */
async function mustHave(path: string, name: string, wanted: boolean): Promise<void> {
  const { bitmaps } = await imageInfo(path, { format: 'qcow2' });
  const found = bitmaps.find((bitmap) => bitmap.name === name);
  if (wanted ? found?.flags.includes('in-use') === false : found === undefined) return;
  throw new Failure('disk-engine', `bitmap ${name} of ${path} could not be ${wanted ? 'added' : 'removed'}`);
}
