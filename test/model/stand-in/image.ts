/** Stands in for `qemu/image.ts` where bitmaps in images are removed. */
import { lifeAt } from '../stage.ts';

export async function imageInfo(path: string): Promise<{ bitmaps: { name: string }[] }> {
  const { here } = lifeAt(path);
  return { bitmaps: here.bitmaps.filter((bitmap) => bitmap.path === path).map(({ name }) => ({ name })) };
}

export async function removeBitmap(path: string, name: string): Promise<void> {
  const life = lifeAt(path);
  life.effect(`remove bitmap ${name} from the image`, true);
  life.here.bitmaps = life.here.bitmaps.filter((bitmap) => bitmap.path !== path || bitmap.name !== name);
}
