/**
 * All recovery points of a replica that nobody has open, read without its code: the flat disks by qemu-img, the undo logs by
 * the reader that was written from FORMAT.md alone.
 */
import { readdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../../../src/lib/process.ts';
import type { ReplicatedDisk } from '../../../src/model/relationship.ts';
// @ts-expect-error: plain JavaScript, written from FORMAT.md alone
import { applyDeltaLog as untypedApply, readDeltaLog as untyped } from '../../vectors/read-delta-log.js';

interface Undo {
  readonly header: {
    readonly follows: Named;
    readonly point: Named | null;
    readonly disks: readonly ReplicatedDisk[];
  };
  readonly footer: { readonly makes: Named };
}

interface Named {
  readonly sequence: number;
}

interface Record {
  readonly applied: Named;
  readonly latest: Named | null;
  readonly disks: readonly ReplicatedDisk[];
}

const readDeltaLog = untyped as (log: Buffer) => Undo;
const applyDeltaLog = untypedApply as (before: readonly Buffer[], log: Undo) => Buffer[];

/** What an image holds, read by qemu-img. */
export async function imageBytes(path: string, size: number): Promise<Buffer> {
  const raw = `${path}.raw`;
  try {
    const { code, stderr } = await run('qemu-img', ['convert', '-O', 'raw', path, raw], { timeoutMs: 60_000 });
    if (code !== 0) throw new Error(stderr);
    const bytes = await readFile(raw);
    if (bytes.length < size) throw new Error(`${path} has ${bytes.length} bytes`);
    return bytes.subarray(0, size);
  } finally {
    await rm(raw, { force: true });
  }
}

/** What the disks hold at each point, by sequence. Throws where the way back has a hole. */
export async function readPoints(directory: string): Promise<Map<number, Buffer[]>> {
  const record = JSON.parse(await readFile(join(directory, 'replica.json'), 'utf8')) as Record;
  let disks: Buffer[] = [];
  for (const { target, size } of record.disks) {
    disks.push(await imageBytes(join(directory, 'disks', `${target}.qcow2`), size));
  }
  const points = new Map<number, Buffer[]>();
  const of = (shape: readonly ReplicatedDisk[]): Buffer[] => disks.filter((_, i) => shape[i]!.gone !== true);
  if (record.latest !== null) points.set(record.latest.sequence, of(record.disks));
  let at = record.applied.sequence;
  const names = await readdir(join(directory, 'undo'));
  for (const name of names.toSorted().toReversed()) {
    const log = readDeltaLog(await readFile(join(directory, 'undo', name)));
    const { header, footer } = log;
    if (header.follows.sequence !== at)
      throw new Error(`${name} leads back from ${header.follows.sequence}, not ${at}`);
    disks = applyDeltaLog(disks, log);
    at = footer.makes.sequence;
    if (header.point !== null) points.set(header.point.sequence, of(header.disks));
  }
  return points;
}
