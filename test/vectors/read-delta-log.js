/**
 * A reader of delta logs, written from src/deltalog/FORMAT.md and nothing else: it imports nothing of the project, so that it
 * shows whether the description is right. `node read-delta-log.js FILE` prints what a log says.
 */
import { readFileSync } from 'node:fs';
import { zstdDecompressSync } from 'node:zlib';
import { blake3 } from './blake3.js';

const KINDS = { 1: 'data', 2: 'zero', 3: 'reference', 254: 'index', 255: 'end' };
/** Bytes of a block that a reference may name. */
const BLOCK = 65_536;
const hash = (...parts) => blake3(Buffer.concat(parts)).subarray(0, 16);

function demand(holds, what) {
  if (!holds) throw new Error(`not a good delta log: ${what}`);
}

/** Everything that a whole log holds, checked. */
export function readDeltaLog(log) {
  demand(log.toString('latin1', 0, 8) === 'UNDSTDLG', 'magic number');
  demand(log.readUInt16LE(8) === 1, 'version');
  const jsonEnd = 16 + log.readUInt32LE(12);
  const headerDigest = log.subarray(jsonEnd, jsonEnd + 16);
  demand(hash(log.subarray(0, jsonEnd)).equals(headerDigest), 'digest of the header');
  const header = JSON.parse(log.toString('utf8', 16, jsonEnd));

  const frames = [];
  const digests = [headerDigest];
  const entries = [];
  let at = jsonEnd + 16;
  for (let kind = ''; kind !== 'end';) {
    const head = log.subarray(at, at + 48);
    kind = KINDS[head[0]];
    const stored = log.subarray(at + 48, at + 48 + head.readUInt32LE(4));
    demand(head[1] === 0 || head[1] === 1, `codec of the frame at ${at}`);
    const frame = { kind, at, disk: head.readUInt16LE(2), offset: Number(head.readBigUInt64LE(8)), stored };
    frame.length = Number(head.readBigUInt64LE(16));
    const pieces = kind === 'data' && head[1] === 0 ? cutAtBlocks(frame.offset, stored) : [stored];
    const checked = [head.subarray(0, 32), ...pieces.filter((piece) => piece.length > 0).map((piece) => hash(piece))];
    demand(hash(...checked).equals(head.subarray(32)), `digest of the frame at ${at}`);
    if (kind === 'data') frame.data = head[1] === 1 ? zstdDecompressSync(stored) : stored;
    if (kind === 'data') demand(frame.data.length === frame.length, `length of the frame at ${at}`);
    if (kind === 'reference') {
      frame.source = { disk: head.readUInt16LE(30), offset: head.readUIntLE(24, 6) * BLOCK };
      demand(frame.offset % BLOCK === 0 && frame.length % BLOCK === 0, `blocks of the reference at ${at}`);
    }
    if (kind === 'data' || kind === 'zero' || kind === 'reference') {
      const there = header.direction === 'undo' || header.disks[frame.disk].gone !== true;
      demand(there, `frame at ${at}, of a disk that is gone`);
      entries.push(Buffer.concat([head.subarray(0, 32), u64(at)]));
    }
    if (kind !== 'end') digests.push(head.subarray(32));
    frames.push(frame);
    at += 48 + stored.length;
  }
  const end = frames.pop();
  const index = frames.pop();
  const footer = JSON.parse(end.stored.toString('utf8'));
  demand(index.kind === 'index' && index.stored.equals(Buffer.concat(entries)), 'index');
  demand(footer.indexAt === index.at && footer.frames === frames.length, 'footer');
  demand(footer.logDigest === hash(...digests).toString('hex'), 'digest of the log');
  if (header.direction === 'forward') {
    const state = hash(Buffer.from(header.follows.state, 'hex'), Buffer.from(footer.logDigest, 'hex'));
    demand(footer.makes.state === state.toString('hex'), 'state that it makes');
  }
  for (const frame of frames) if (frame.kind === 'reference') frame.data = referred(frame, frames);
  demand(Number(log.readBigUInt64LE(at)) === end.at, 'trailer');
  demand(log.toString('latin1', at + 8) === 'GLDTSDNU', 'end of the trailer');
  return {
    header,
    frames: frames.map(({ kind, disk, offset, length, data, source }) => ({
      kind,
      disk,
      offset,
      length,
      data,
      source,
    })),
    footer,
  };
}

/**
 * The state that a log makes of another one, which stays as it is. Both are a Buffer for each disk; they have the sizes that the log's header
 * says: what a disk gains reads as zeros, what it loses is gone.
 */
export function applyDeltaLog(before, { header, frames }) {
  const disks = header.disks.map(({ size }, i) => {
    const disk = Buffer.alloc(size);
    before[i]?.copy(disk);
    return disk;
  });
  for (const { kind, disk, offset, length, data } of frames) {
    demand(offset + length <= disks[disk].length, `frame at ${offset} of disk ${disk}, which ends before`);
    if (kind === 'zero') disks[disk].fill(0, offset, offset + length);
    else data.copy(disks[disk], offset);
  }
  return disks;
}

/** What a reference makes: block by block out of the one data frame that holds it. */
function referred({ length, source, at }, frames) {
  const blocks = [];
  for (let offset = source.offset; offset < source.offset + length; offset += BLOCK) {
    const having = frames.filter(
      (frame) => frame.disk === source.disk && frame.offset < offset + BLOCK && offset < frame.offset + frame.length,
    );
    const [frame] = having;
    demand(having.length === 1 && frame.kind === 'data', `source of the reference at ${at}`);
    demand(frame.offset <= offset && offset + BLOCK <= frame.offset + frame.length, `source of the reference at ${at}`);
    blocks.push(frame.data.subarray(offset - frame.offset, offset - frame.offset + BLOCK));
  }
  return Buffer.concat(blocks);
}

/** Bytes of a disk from `offset` on, in pieces that end where blocks do. */
function cutAtBlocks(offset, bytes) {
  const pieces = [];
  for (let at = 0; at < bytes.length;) {
    const end = Math.min(bytes.length, at + BLOCK - ((offset + at) % BLOCK));
    pieces.push(bytes.subarray(at, end));
    at = end;
  }
  return pieces;
}

function u64(value) {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

if (import.meta.main) {
  const { header, frames, footer } = readDeltaLog(readFileSync(process.argv[2]));
  console.log(
    JSON.stringify({ header, frames: frames.map((frame) => ({ ...frame, data: undefined })), footer }, null, 2),
  );
}
