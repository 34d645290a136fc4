/** Lane's side of reading digests. */
import type { LaneContext } from '../lanes/context.ts';
import { NbdClient } from '../qemu/nbd/client.ts';
import { BASE_ALLOCATION } from '../qemu/nbd/wire.ts';
import { digestBlocks, type BlocksToRead } from './read-digests.ts';

export async function readDigestsOf({ address, from, count }: BlocksToRead, context: LaneContext): Promise<Uint8Array> {
  const client = await NbdClient.connect({ ...address, metaContexts: [BASE_ALLOCATION] });
  const stop = (): void => client.destroy();
  context.signal.addEventListener('abort', stop, { once: true });
  try {
    return await digestBlocks(client, from, count);
  } finally {
    context.signal.removeEventListener('abort', stop);
    client.destroy();
  }
}
