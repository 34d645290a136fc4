import { createCipheriv, createHash } from 'node:crypto';
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { run } from '../../src/lib/process.ts';
import { Failure } from '../../src/model/failure.ts';

const MIB = 1 << 20;

export interface GuestDiskOptions {
  /** Virtual size; at least 32 for the workload's files. Default 256. */
  readonly sizeMiB?: number;
  /** MiB of incompressible bytes in a file `/filler` that the guest never touches. Default 0. */
  readonly fillerMiB?: number;
  /** What the filler is made from: same seed, same bytes. Default `understudy`. */
  readonly seed?: string;
}

/** Makes a qcow2 image with an empty ext4 (and the filler), without mounting anything. About 0.1 s. */
export async function createGuestDisk(path: string, options: GuestDiskOptions = {}): Promise<void> {
  const { sizeMiB = 256, fillerMiB = 0, seed = 'understudy' } = options;
  mkdirSync(dirname(path), { recursive: true });
  const work = mkdtempSync(join(dirname(path), '.disk-')); // beside the image: where there is room for it
  try {
    const content = join(work, 'content');
    mkdirSync(content, { mode: 0o755 });
    chmodSync(content, 0o755);
    if (fillerMiB > 0) writeFileSync(join(content, 'filler'), noise(seed, fillerMiB * MIB));
    const raw = join(work, 'raw');
    // lazy_itable_init=0: or the guest's kernel would go on initialising, and dirtying blocks, for minutes
    const ext4 = ['-q', '-F', '-t', 'ext4', '-m', '0', '-E', 'lazy_itable_init=0,lazy_journal_init=0', '-d', content];
    await must('mke2fs', [...ext4, raw, `${sizeMiB}M`]);
    await must('qemu-img', ['convert', '-q', '-f', 'raw', '-O', 'qcow2', raw, path]);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

/**
 * A file of a disk image that no guest runs on, without mounting: from a copy, whose journal is replayed first, as the
 * guest would at its next boot. The image itself isn't touched.
 */
export async function readGuestFile(image: string, file: string, format: 'qcow2' | 'raw' = 'qcow2'): Promise<Buffer> {
  const work = mkdtempSync(join(dirname(image), '.read-'));
  try {
    const raw = join(work, 'raw');
    const out = join(work, 'out');
    await must('qemu-img', ['convert', '-q', '-f', format, '-O', 'raw', image, raw]);
    await must('e2fsck', ['-p', raw], [0, 1]); // 1: it had something to repair, a journal
    await must('debugfs', ['-R', `dump ${file} ${out}`, raw]);
    return readFileSync(out);
  } finally {
    rmSync(work, { recursive: true, force: true });
  }
}

function noise(seed: string, length: number): Buffer {
  const key = createHash('sha256').update(seed).digest();
  return createCipheriv('aes-256-ctr', key, Buffer.alloc(16)).update(Buffer.alloc(length));
}

async function must(program: string, args: readonly string[], codes: readonly number[] = [0]): Promise<void> {
  const { code, stdout, stderr } = await run(program, args);
  if (code === null || !codes.includes(code)) {
    throw new Failure('internal', `${program} ${args.join(' ')}: ${(stderr || stdout).trim()}`);
  }
}
