import { open, type FileHandle } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';
import { syncDirectory } from '../lib/atomic-file.ts';
import { type Finished, run } from '../lib/process.ts';
import { Failure } from '../model/failure.ts';

export type ImageFormat = 'qcow2' | 'raw';

/** An image file with its format: declared, never probed. */
export interface ImageFile {
  readonly path: string;
  readonly format: ImageFormat;
}

export interface ImageBitmap {
  readonly name: string;
  /** Bytes of disk that one bit stands for. */
  readonly granularity: number;
  /** `auto`: recording from the next opening on. `in-use`: the image wasn't closed, the bitmap can't be relied on. */
  readonly flags: readonly string[];
}

export interface ImageInfo {
  readonly format: string;
  /** Virtual size, bytes. */
  readonly size: number;
  /** Bytes of storage that the file takes. */
  readonly allocated: number;
  /** As the header names it: `path` may be relative to the image. */
  readonly backing?: { readonly path: string; readonly format?: string };
  readonly bitmaps: readonly ImageBitmap[];
  /** Where the data are, if not in the image. `raw`: they are a raw disk, which reads the same. */
  readonly dataFile?: { readonly path: string; readonly raw: boolean };
  /** Only who has its key can open it, were it only to change its bitmaps. */
  readonly encrypted?: true;
  /** QEMU has met damage in what the image keeps about itself, and doesn't write to it until it is mended. */
  readonly corrupt?: true;
}

export interface ImageCheck {
  readonly corruptions: number;
  /** Clusters that take space without being used: harmless. */
  readonly leaks: number;
}

/** Of a file that can't be opened as an image: so many bytes show whether its storage can be read. */
const HEADER_BYTES = 4096;

interface InfoJson {
  format: string;
  'virtual-size': number;
  'actual-size': number;
  'backing-filename'?: string;
  'full-backing-filename'?: string;
  'backing-filename-format'?: string;
  encrypted?: boolean;
  'format-specific'?: {
    data?: { bitmaps?: ImageBitmap[]; 'data-file'?: string; 'data-file-raw'?: boolean; corrupt?: boolean };
  };
}

interface CheckJson {
  'check-errors': number;
  corruptions?: number;
  leaks?: number;
}

/**
 * Creates an image, durable when this resolves (`qemu-img` itself doesn't sync: after a power cut the file may be
 * empty). `path` must not exist: an existing file would be emptied. Failures: `already-exists`, `no-space`, `io`.
 */
export async function createImage(
  path: string,
  size: number,
  options: { format: ImageFormat; backing?: ImageFile },
): Promise<void> {
  await (await exclusively(path)).close();
  const { format, backing } = options;
  const args = ['create', '-q', '-f', format];
  if (backing !== undefined) args.push('-b', located(backing.path), '-F', backing.format);
  await qemuImg([...args, path, String(size)], `create image ${path}`);
  await syncFile(path);
  await syncDirectory(dirname(path));
}

/** A path is written absolute into an image; an NBD address as it is. */
function located(path: string): string {
  return path.includes('://') ? path : resolve(path);
}

/** Gives a qcow2 that nobody has open another virtual size, bytes; durable when this resolves. What is added reads as zeros, what is cut off is lost. */
export async function resizeImage(path: string, size: number): Promise<void> {
  await qemuImg(['resize', '-q', '--shrink', '-f', 'qcow2', path, String(size)], `resize image ${path}`);
  await syncFile(path);
}

/** Copies what `source` reads as into a new image, durable when this resolves. Failures: `already-exists`, `no-space`, `io`. */
export async function convertImage(source: ImageFile, target: ImageFile): Promise<void> {
  await (await exclusively(target.path)).close();
  const args = ['convert', '-q', '-f', source.format, '-O', target.format, source.path, target.path];
  await qemuImg(args, `write image ${target.path}`);
  await syncFile(target.path);
  await syncDirectory(dirname(target.path));
}

/**
 * What an image's header says. `format` as declared; only where nobody has declared one may it be left out (it is probed
 * then: never for an image that a guest could write as raw). `inUse` reads past the lock of whoever has it open: sizes and
 * format are right then, bitmaps may be stale (a running QEMU stores them only at its end).
 */
export async function imageInfo(path: string, options: { format?: string; inUse?: boolean } = {}): Promise<ImageInfo> {
  const args = ['info', '--output=json'];
  if (options.inUse === true) args.push('-U');
  if (options.format !== undefined) args.push('-f', options.format);
  const { stdout } = await qemuImg([...args, path], `read image ${path}`);
  const json = JSON.parse(stdout) as InfoJson;
  const backing = json['full-backing-filename'] ?? json['backing-filename'];
  const format = json['backing-filename-format'];
  const inside = json['format-specific']?.data;
  const dataFile = inside?.['data-file'];
  return {
    format: json.format,
    size: json['virtual-size'],
    allocated: json['actual-size'],
    ...(backing === undefined ? {} : { backing: { path: backing, ...(format === undefined ? {} : { format }) } }),
    bitmaps: inside?.bitmaps ?? [],
    ...(dataFile === undefined ? {} : { dataFile: { path: dataFile, raw: inside?.['data-file-raw'] === true } }),
    ...(json.encrypted === true ? { encrypted: true as const } : {}),
    ...(inside?.corrupt === true ? { corrupt: true as const } : {}),
  };
}

/**
 * Whether QEMU can open a qcow2, past the lock of whoever has it open. False: its file can be read, and holds no such image (any more).
 * Failures: those of its storage, as they come; `io` where qemu-img itself came to grief.
 */
export async function opens(path: string): Promise<boolean> {
  const { code } = await qemuImg(['info', '--output=json', '-U', '-f', 'qcow2', path], `look at image ${path}`, [0, 1]);
  if (code === 0) return true;
  const file = await open(path, 'r');
  try {
    await file.read(Buffer.alloc(HEADER_BYTES), 0, HEADER_BYTES, 0);
  } finally {
    await file.close();
  }
  return false;
}

/** Adds a persistent bitmap to a qcow2 that nobody has open; it records from the next opening on. */
export async function addBitmap(path: string, name: string, granularity = 65_536): Promise<void> {
  await bitmap(path, name, '--add', ['-g', String(granularity)]);
}

/** Removes a bitmap, usable or not, from a qcow2 that nobody has open. */
export async function removeBitmap(path: string, name: string): Promise<void> {
  await bitmap(path, name, '--remove');
}

/** Forgets what a bitmap has recorded. */
export async function clearBitmap(path: string, name: string): Promise<void> {
  await bitmap(path, name, '--clear');
}

/** Compares what two images read as; different sizes are a difference. `difference` says where the first one is. */
export async function compareImages(a: ImageFile, b: ImageFile): Promise<{ identical: boolean; difference?: string }> {
  const [left, right] = await Promise.all([imageInfo(a.path, a), imageInfo(b.path, b)]);
  if (left.size !== right.size) return { identical: false, difference: `sizes ${left.size} and ${right.size}` };
  const args = ['compare', '-f', a.format, '-F', b.format, a.path, b.path];
  const { code, stdout } = await qemuImg(args, `compare ${a.path} with ${b.path}`, [0, 1]);
  return code === 0 ? { identical: true } : { identical: false, difference: stdout.trim() };
}

/** Merges an overlay into its backing file, which is durable when this resolves. The overlay stays, emptied. */
export async function commitImage(path: string): Promise<void> {
  const { backing } = await imageInfo(path, { format: 'qcow2' });
  if (backing === undefined) throw new Failure('wrong-state', `image ${path} has no backing file to commit into`);
  await qemuImg(['commit', '-q', '-f', 'qcow2', path], `commit image ${path}`);
  await syncFile(backing.path);
}

/**
 * Checks a qcow2. `repair`: `leaks` only, or `all` that is wrong; then it gives what was left, and nobody may have it open. `inUse`:
 * somebody has, who doesn't write now; what wasn't flushed looks wrong.
 */
export async function checkImage(
  path: string,
  options: { repair?: 'leaks' | 'all'; inUse?: boolean } = {},
): Promise<ImageCheck> {
  const repair = options.repair === undefined ? [] : ['-r', options.repair];
  const shared = options.inUse === true ? ['-U'] : [];
  const args = ['check', '--output=json', '-f', 'qcow2', ...shared, ...repair, path];
  const { stdout } = await qemuImg(args, `check image ${path}`, [0, 2, 3]);
  const json = JSON.parse(stdout) as CheckJson;
  if (json['check-errors'] > 0) throw new Failure('io', `image ${path} couldn't be checked to its end`);
  return { corruptions: json.corruptions ?? 0, leaks: json.leaks ?? 0 };
}

async function bitmap(path: string, name: string, action: string, more: readonly string[] = []): Promise<void> {
  await qemuImg(['bitmap', action, ...more, '-f', 'qcow2', path, name], `${action.slice(2)} bitmap ${name} of ${path}`);
}

/** Runs qemu-img; other exit codes than `good` are a Failure with what it said. */
export async function qemuImg(args: readonly string[], what: string, good: readonly number[] = [0]): Promise<Finished> {
  let finished: Finished;
  try {
    finished = await run('qemu-img', args);
  } catch (cause) {
    const hint = 'Install the Debian package qemu-utils.';
    throw new Failure('missing-program', 'qemu-img is not installed', { cause, hint });
  }
  if (finished.code !== null && good.includes(finished.code)) return finished;
  const said = finished.stderr.trim() || `exit code ${finished.code}`;
  const code = said.includes('No space left on device') ? 'no-space' : 'io';
  throw new Failure(code, `can't ${what}: ${said}`, { hint: 'See what qemu-img said about the named image.' });
}

/** Makes a file that must not exist. Failure `already-exists`. */
export async function exclusively(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'wx', 0o600);
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw cause;
    throw new Failure('already-exists', `image ${path} exists already`, { cause });
  }
}

/** Makes a file's content durable. */
export async function syncFile(path: string): Promise<void> {
  const handle = await open(path, 'r');
  try {
    await handle.sync();
  } finally {
    await handle.close();
  }
}
