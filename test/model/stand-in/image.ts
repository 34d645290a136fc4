/** Stands in for `qemu/image.ts` where bitmaps in images are removed, and their sizes are looked at. */
import { lifeAt } from '../stage.ts';
import { BLOCK } from '../world.ts';

export async function imageInfo(path: string): Promise<{ size: number; bitmaps: { name: string }[] }> {
  const { here } = lifeAt(path);
  return {
    size: 2 * BLOCK,
    bitmaps: here.bitmaps.filter((bitmap) => bitmap.path === path).map(({ name }) => ({ name })),
  };
}

export async function removeBitmap(path: string, name: string): Promise<void> {
  const life = lifeAt(path);
  life.effect(`remove bitmap ${name} from the image`, true);
  life.here.bitmaps = life.here.bitmaps.filter((bitmap) => bitmap.path !== path || bitmap.name !== name);
}
