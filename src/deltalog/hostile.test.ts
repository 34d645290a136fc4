/** Logs that are whole by their digests and yet wrong: what a faulty or hostile writer could send. */
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { HEADER } from '../../test/vectors/delta-logs.ts';
import { digest, digestOf } from '../lib/digest.ts';
import { Failure, type FailureCode } from '../model/failure.ts';
import { decodeFrameHead, encodeFrameHead, FRAME_HEAD_SIZE, FrameKind, type FrameHead, type Place } from './frame.ts';
import { chainState, encodeHeader, type LogFooter, type LogHeader } from './header.ts';
import { LogParser } from './parser.ts';
import { indexEntry, TRAILER_MAGIC } from './writer.ts';

type Head = { -readonly [K in keyof Omit<FrameHead, 'digest' | 'stored' | 'kind' | 'codec' | 'source'>]: number } & {
  kind: number;
  codec: number;
  source?: Place;
};

interface Lies {
  readonly header?: Partial<LogHeader>;
  /** Head and payload of the one data frame. */
  readonly frame?: Partial<Head>;
  readonly payload?: Buffer;
  readonly index?: (index: Buffer) => Buffer;
  readonly indexHead?: Partial<Head>;
  readonly footer?: (footer: LogFooter) => unknown;
  /** A frame between index and end. */
  readonly between?: Partial<Head>;
  readonly trailer?: (trailer: Buffer) => void;
  readonly tail?: Buffer;
}

function encode(head: Head, payload: Buffer): Buffer {
  const known = head as Omit<FrameHead, 'digest'>;
  return Buffer.concat([encodeFrameHead({ ...known, stored: payload.length }, payload), payload]);
}

/** A log of one data frame with every digest right, but for the lies. */
function forge(lies: Lies): Buffer {
  const header = encodeHeader({ ...HEADER, ...lies.header });
  const payload = lies.payload ?? Buffer.alloc(16, 1);
  const blank: Head = { kind: FrameKind.data, codec: 0, disk: 0, offset: 4096, length: payload.length };
  const frame = encode({ ...blank, ...lies.frame }, payload);
  const indexAt = header.bytes.length + frame.length;
  const entries = indexEntry(frame, header.bytes.length);
  const bare = { disk: 0, offset: 0, length: 0, codec: 0 };
  const index = encode({ ...bare, kind: FrameKind.index, ...lies.indexHead }, lies.index?.(entries) ?? entries);
  const between = lies.between === undefined ? [] : [encode({ ...blank, ...lies.between }, payload)];
  const digests = [frame, index, ...between].map((bytes) => bytes.subarray(32, FRAME_HEAD_SIZE));
  const logDigest = digestOf(header.digest, ...digests).toString('hex');
  const { epoch, sequence, follows } = HEADER;
  const footer: LogFooter = {
    makes: { epoch, sequence, state: chainState(follows.state, logDigest) },
    frames: 1,
    dataBytes: payload.length,
    zeroBytes: 0,
    referenceBytes: 0,
    indexAt,
    logDigest,
  };
  const end = encode({ ...bare, kind: FrameKind.end }, Buffer.from(JSON.stringify(lies.footer?.(footer) ?? footer)));
  const trailer = Buffer.alloc(16);
  trailer.writeBigUInt64LE(BigInt(indexAt + index.length + (between[0]?.length ?? 0)), 0);
  TRAILER_MAGIC.copy(trailer, 8);
  lies.trailer?.(trailer);
  return Buffer.concat([header.bytes, frame, index, ...between, end, trailer, lies.tail ?? Buffer.alloc(0)]);
}

function refused(log: Buffer, code: FailureCode, message: RegExp): void {
  assert.throws(
    () => new LogParser().push(log),
    (error) => {
      if (error instanceof Failure && error.code === code && message.test(error.message)) return true;
      throw error;
    },
  );
}

const LIES: readonly [string, Lies, RegExp][] = [
  ['a frame for a disk that is not there', { frame: { disk: 2 } }, /disk 2, which the header does not name/],
  ['a frame past the end of its disk', { frame: { disk: 1, offset: 99_990 } }, /passes the disk's end/],
  ['a data frame without bytes', { payload: Buffer.alloc(0) }, /claims 0 bytes/],
  [
    'a data frame that would unpack to more than a frame may',
    { frame: { codec: 1, length: 2 ** 23 } },
    /8388608 bytes/,
  ],
  ['a plain frame of another length', { frame: { length: 15 } }, /15 bytes stores 16/],
  [
    'a packed frame that stores nothing',
    { frame: { codec: 1, length: 5 }, payload: Buffer.alloc(0) },
    /stores nothing/,
  ],
  ['an index with a place on a disk', { indexHead: { offset: 512 } }, /kind 254, claims a place on a disk/],
  ['a disk that is named twice', { header: { disks: [HEADER.disks[1]!, HEADER.disks[1]!] } }, /named twice/],
  ['an empty zero frame', { frame: { kind: 2, length: 0 }, payload: Buffer.alloc(0) }, /is empty/],
  ['a packed zero frame', { frame: { kind: 2, length: 9, codec: 1 }, payload: Buffer.alloc(0) }, /codec 1/],
  ['data with a source', { frame: { source: { disk: 1, offset: 0 } } }, /kind 1, has a source/],
  [
    'a reference to a disk that is not there',
    reference({ source: { disk: 2, offset: 0 } }),
    /disk 2, which the header/,
  ],
  [
    "a reference to what is past its disk's end",
    reference({ source: { disk: 1, offset: 65_536 } }),
    /vdb\+65536 \(65536 bytes\) passes the disk's end/,
  ],
  [
    "a reference past its own disk's end",
    reference({ disk: 1, offset: 65_536 }),
    /vdb\+65536 .* passes the disk's end/,
  ],
  ['a reference for a part of a block', reference({ length: 4096 }), /4096 bytes: not of whole blocks/],
  ['a reference that begins in a block', reference({ offset: 4096 }), /disk 0\+4096 .* not of whole blocks/],
  ['a reference for nothing', reference({ length: 0 }), /of 0 bytes/],
  ['a reference for more than a frame may hold', reference({ length: 2 ** 22 + 65_536 }), /not of whole blocks/],
  ['a packed reference', reference({ codec: 1 }), /codec 1/],
  ['a reference in an undo log', { ...reference({}), header: { direction: 'undo' } }, /undo log holds a reference/],
  [
    'a footer with another number of referred bytes',
    { footer: (footer) => ({ ...footer, referenceBytes: 1 }) },
    /number of referred bytes/,
  ],
  ['an index that is too short', { index: (index) => index.subarray(1) }, /index .* does not fit its frames/],
  ['an index that names another place', { index: (index) => flip(index, 8) }, /index .* does not fit its frames/],
  ['a frame behind the index', { between: {} }, /follows the index/],
  ['a footer with another number of frames', { footer: (footer) => ({ ...footer, frames: 2 }) }, /frames/],
  ['a footer with another number of bytes', { footer: (footer) => ({ ...footer, zeroBytes: 1 }) }, /bytes/],
  ['a footer with another index', { footer: (footer) => ({ ...footer, indexAt: 1 }) }, /index/],
  ['a footer with another digest', { footer: (footer) => ({ ...footer, logDigest: '0'.repeat(32) }) }, /digest/],
  ['a footer with more than it should have', { footer: (footer) => ({ ...footer, extra: 1 }) }, /footer/],
  ['another position than it leads to', { footer: (footer) => makes(footer, { sequence: 8 }) }, /position/],
  ['another state than it leads to', { footer: (footer) => makes(footer, { state: '0'.repeat(32) }) }, /state/],
  ['a trailer that points elsewhere', { trailer: (trailer) => void trailer.writeUInt8(1, 0) }, /trailer/],
  ['bytes behind its end', { tail: Buffer.alloc(1) }, /1 bytes follow the end/],
  ['a header without disks', { header: { disks: [] } }, /header.*disks/],
  ['a relationship that is no id', { header: { relationship: '../../etc' } }, /header.*relationship/],
  ['a disk whose target is a path', { header: { disks: [{ target: '../vda', size: 1 }] } }, /header.*target/],
  ['a disk beyond what can be counted', { header: { disks: [{ target: 'vda', size: 2 ** 53 }] } }, /header.*size/],
];

function reference(head: Partial<Head>): Lies {
  const source = { disk: 0, offset: 131_072 };
  return { frame: { kind: FrameKind.reference, offset: 0, length: 65_536, source, ...head }, payload: Buffer.alloc(0) };
}

function flip(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes);
  copy[at] = copy[at]! ^ 1;
  return copy;
}

function makes(footer: LogFooter, other: Partial<LogFooter['makes']>): LogFooter {
  return { ...footer, makes: { ...footer.makes, ...other } };
}

describe('a delta log whose digests are right', () => {
  test('is taken when nothing else is wrong with it', () => {
    const parser = new LogParser();
    parser.push(forge({}));
    assert.ok(parser.complete);
  });

  for (const [what, lies, message] of LIES) {
    test(`is refused for ${what}`, () => refused(forge(lies), 'bad-log', message));
  }

  test('may lead to a state of another name only when it is an undo log', () => {
    const parser = new LogParser();
    const footer = (own: LogFooter) => makes(own, { state: '0'.repeat(32) });
    parser.push(forge({ header: { direction: 'undo' }, footer }));
    assert.ok(parser.complete);
  });
});

describe('what a later version wrote', () => {
  test('is refused by its version', () => {
    const log = forge({});
    log.writeUInt16LE(2, 8);
    refused(log, 'format-unknown', /version 2; this version reads 1/);
  });

  test('is refused by its version, and what an earlier one wrote with another cure', () => {
    const log = forge({});
    log.writeUInt16LE(0, 8);
    refused(log, 'format-unknown', /version 0; this version reads 1/);
    assert.throws(() => new LogParser().push(log), { hint: /--keep-disks/ });
  });

  for (const kind of [0, 4, 5, 253]) {
    test(`is refused by its frame kind ${kind}`, () => {
      refused(forge({ frame: { kind } }), 'format-unknown', new RegExp(`kind ${kind} `));
    });
  }

  test('is refused by what it has where this version has zeros', () => {
    const { bytes } = encodeHeader(HEADER);
    bytes.writeUInt16LE(5, 10);
    digest(bytes.subarray(0, -16)).copy(bytes, bytes.length - 16);
    refused(bytes, 'format-unknown', /5 at byte 10/);
  });

  test('is refused by its codec', () => {
    refused(forge({ frame: { codec: 2 } }), 'format-unknown', /codec 2 /);
  });
});

describe('what a head claims', () => {
  const head = (kind: number, stored: number): Buffer => {
    const bytes = Buffer.alloc(FRAME_HEAD_SIZE);
    bytes.writeUInt8(kind, 0);
    bytes.writeUInt32LE(stored, 4);
    digest(bytes.subarray(0, 32)).copy(bytes, 32);
    return bytes;
  };

  test('is refused before anything is held for it, if it is too much', () => {
    const limits: [number, number][] = [
      [FrameKind.data, 4 * 1024 * 1024],
      [FrameKind.zero, 0],
      [FrameKind.reference, 0],
      [FrameKind.index, 400 * 1024 * 1024],
      [FrameKind.end, 64 * 1024],
      [7, 64 * 1024],
    ];
    for (const [kind, most] of limits) {
      decodeFrameHead(head(kind, most));
      assert.throws(() => decodeFrameHead(head(kind, most + 1)), { code: 'bad-log' }, `kind ${kind}`);
    }
  });

  test('of an index is refused as soon as it does not fit the frames before it', () => {
    const { bytes } = encodeHeader(HEADER);
    refused(Buffer.concat([bytes, head(FrameKind.index, 40)]), 'bad-log', /index/);
  });

  test('beyond 2^53 is refused', () => {
    const bytes = head(FrameKind.zero, 0);
    bytes.writeBigUInt64LE(2n ** 53n, 8);
    assert.throws(() => decodeFrameHead(bytes), { code: 'bad-log' });
  });
});
