import { crc32 } from 'node:zlib';

/**
 * A record is a line of 34 bytes: number (10 digits), guest time in ms since the epoch (13 digits), CRC-32 (8 hex
 * digits) of the 24 characters before it; the first two are followed by a space. The guest's `records` writes them.
 */
export const RECORD_BYTES = 34;
const RECORD = /^((\d{10}) (\d{13})) ([0-9a-f]{8})\n$/;

export interface WorkloadRecord {
  readonly number: number;
  /** ms since the epoch, the guest's clock. */
  readonly time: number;
}

/** What one disk's file holds; `check-records` in the guest prints the same shape. */
export interface DiskRecords {
  /** Records with a good checksum. */
  readonly count: number;
  readonly first: number | null;
  readonly last: number | null;
  /** Lines that are no record. */
  readonly bad: number;
  /** Numbers missing between the first and the last. */
  readonly gaps: number;
  /** Records whose number is not above the one before. */
  readonly duplicates: number;
  /** Bytes of an unfinished line at the end: what a crash may leave. */
  readonly tornBytes: number;
}

export interface RecordsReport {
  readonly vda: DiskRecords;
  readonly vdb: DiskRecords;
}

export function makeRecord(record: WorkloadRecord): string {
  const head = `${String(record.number).padStart(10, '0')} ${String(record.time).padStart(13, '0')}`;
  return `${head} ${crc32(head).toString(16).padStart(8, '0')}\n`;
}

/** The record in a line of 34 bytes, newline included; undefined where it is damaged. */
export function parseRecord(line: string): WorkloadRecord | undefined {
  const match = RECORD.exec(line);
  if (match === null || crc32(match[1]!) !== Number.parseInt(match[4]!, 16)) return undefined;
  return { number: Number(match[2]), time: Number(match[3]) };
}

/** All good records of a file, in its order. */
export function parseRecords(content: Buffer): WorkloadRecord[] {
  return lines(content)
    .map(parseRecord)
    .filter((record) => record !== undefined);
}

export function checkRecords(content: Buffer): DiskRecords {
  let [bad, gaps, duplicates, count] = [0, 0, 0, 0];
  let first: number | null = null;
  let last: number | null = null;
  for (const line of lines(content)) {
    const record = parseRecord(line);
    if (record === undefined) {
      bad++;
      continue;
    }
    count++;
    first ??= record.number;
    if (last !== null && record.number <= last) {
      duplicates++;
      continue;
    }
    if (last !== null) gaps += record.number - last - 1;
    last = record.number;
  }
  return { count, first, last, bad, gaps, duplicates, tornBytes: content.length % RECORD_BYTES };
}

/**
 * What is wrong with two disks of one instant; none = nothing. A record is on vda, durably, before vdb gets it: so
 * at any instant vdb is level with vda or one behind. Every record since number 1 must be there.
 */
export function problems({ vda, vdb }: RecordsReport): string[] {
  const found: string[] = [];
  for (const [disk, records] of Object.entries({ vda, vdb })) {
    if (records.bad > 0) found.push(`${disk}: ${records.bad} records with a bad checksum`);
    if (records.gaps > 0) found.push(`${disk}: ${records.gaps} records missing in between`);
    if (records.duplicates > 0) found.push(`${disk}: ${records.duplicates} records out of order or twice`);
    if (records.first !== null && records.first !== 1) found.push(`${disk}: begins with record ${records.first}`);
  }
  const ahead = (vda.last ?? 0) - (vdb.last ?? 0);
  if (ahead !== 0 && ahead !== 1) found.push(`vda ends with record ${vda.last}, vdb with ${vdb.last}: not one instant`);
  return found;
}

function lines(content: Buffer): string[] {
  const found: string[] = [];
  for (let at = 0; at + RECORD_BYTES <= content.length; at += RECORD_BYTES) {
    found.push(content.toString('latin1', at, at + RECORD_BYTES));
  }
  return found;
}
