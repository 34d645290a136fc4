import { imageInfo } from './image.ts';

/** Bitmaps in qcow2 images, in use or not, whose names don't begin with `prefix`: as `vda: name`. Failures: as `imageInfo`. */
export async function foreignBitmaps(
  disks: readonly { readonly target: string; readonly path: string }[],
  prefix: string,
): Promise<string[]> {
  const found = disks.map(async ({ target, path }) => {
    const { bitmaps } = await imageInfo(path, { format: 'qcow2', inUse: true });
    return bitmaps.filter(({ name }) => !name.startsWith(prefix)).map(({ name }) => `${target}: ${name}`);
  });
  return (await Promise.all(found)).flat();
}
