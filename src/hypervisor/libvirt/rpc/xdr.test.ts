import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { XdrReader, XdrWriter } from './xdr.ts';

describe('XDR', () => {
  test('is laid out as RFC 4506 says', () => {
    const bytes = new XdrWriter()
      .int(-2)
      .uint(7)
      .uhyper(2 ** 40)
      .string('abcde')
      .optionalString(undefined)
      .finish();
    assert.equal(bytes.toString('hex'), 'fffffffe0000000700000100000000000000000561626364650000000000' + '0000');
  });

  test('gives back what was written', () => {
    const value = fc.record({
      int: fc.integer({ min: -(2 ** 31), max: 2 ** 31 - 1 }),
      uhyper: fc.maxSafeNat(),
      text: fc.string({ unit: 'grapheme' }),
      maybe: fc.option(fc.string(), { nil: undefined }),
      bytes: fc.uint8Array(),
    });
    fc.assert(
      fc.property(value, ({ int, uhyper, text, maybe, bytes }) => {
        const writer = new XdrWriter().int(int).fixed(bytes).string(text).uhyper(uhyper).optionalString(maybe);
        const reader = new XdrReader(writer.finish());
        assert.equal(reader.int(), int);
        assert.deepEqual(new Uint8Array(reader.fixed(bytes.length)), bytes);
        assert.equal(reader.string(), text);
        assert.equal(reader.uhyper(), uhyper);
        assert.equal(reader.optionalString(), maybe);
      }),
    );
  });

  test('a length beyond the message is an error, not a short or huge value', () => {
    const reader = () => new XdrReader(new XdrWriter().uint(2 ** 31).finish());
    assert.throws(() => reader().string(), RangeError);
    assert.throws(() => reader().array((each) => each.int()), RangeError);
    assert.throws(() => new XdrReader(Buffer.alloc(2)).int(), RangeError);
  });
});
