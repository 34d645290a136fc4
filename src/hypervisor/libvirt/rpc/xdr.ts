/**
 * XDR (RFC 4506), as far as libvirt's protocol uses it: big-endian, everything padded to multiples of four bytes.
 */

const ZERO_PADDING = Buffer.alloc(4);

export class XdrWriter {
  readonly #parts: Buffer[] = [];

  int(value: number): this {
    const part = Buffer.allocUnsafe(4);
    part.writeInt32BE(value);
    this.#parts.push(part);
    return this;
  }

  uint(value: number): this {
    const part = Buffer.allocUnsafe(4);
    part.writeUInt32BE(value);
    this.#parts.push(part);
    return this;
  }

  /** An unsigned 64-bit number, below 2^53. */
  uhyper(value: number): this {
    const part = Buffer.allocUnsafe(8);
    part.writeBigUInt64BE(BigInt(value));
    this.#parts.push(part);
    return this;
  }

  /** Bytes whose number both sides know. */
  fixed(bytes: Uint8Array): this {
    this.#parts.push(Buffer.from(bytes), ZERO_PADDING.subarray(0, -bytes.length & 3));
    return this;
  }

  string(text: string): this {
    const bytes = Buffer.from(text, 'utf8');
    return this.uint(bytes.length).fixed(bytes);
  }

  /** A value that may be absent. */
  optionalString(text: string | undefined): this {
    return text === undefined ? this.uint(0) : this.uint(1).string(text);
  }

  finish(): Buffer {
    return Buffer.concat(this.#parts);
  }
}

/** Reads past the end and lengths that can't be throw `RangeError`: the connection takes that for a broken peer. */
export class XdrReader {
  readonly #bytes: Buffer;
  #at = 0;

  constructor(bytes: Buffer) {
    this.#bytes = bytes;
  }

  int(): number {
    const value = this.#bytes.readInt32BE(this.#at);
    this.#at += 4;
    return value;
  }

  uint(): number {
    const value = this.#bytes.readUInt32BE(this.#at);
    this.#at += 4;
    return value;
  }

  /** An unsigned 64-bit number; above 2^53 it is rounded, as a double is. */
  uhyper(): number {
    const value = this.#bytes.readBigUInt64BE(this.#at);
    this.#at += 8;
    return Number(value);
  }

  fixed(length: number): Buffer {
    const end = this.#at + length;
    if (end > this.#bytes.length)
      throw new RangeError(`XDR: ${length} bytes wanted, ${this.#bytes.length - this.#at} left`);
    const value = this.#bytes.subarray(this.#at, end);
    this.#at = end + (-length & 3);
    return value;
  }

  string(): string {
    return this.fixed(this.uint()).toString('utf8');
  }

  optionalString(): string | undefined {
    return this.uint() === 0 ? undefined : this.string();
  }

  array<T>(element: (reader: XdrReader) => T): T[] {
    const length = this.uint();
    const left = this.#bytes.length - this.#at;
    if (length > left / 4) throw new RangeError(`XDR: an array of ${length} elements in ${left} bytes`);
    return Array.from({ length }, () => element(this));
  }
}
