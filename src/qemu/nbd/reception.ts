import type { Socket } from 'node:net';
import { Failure } from '../../model/failure.ts';
import type { Inbound } from './inbound.ts';
import type { NbdSource } from './server.ts';
import {
  BASE_ALLOCATION,
  encodeString,
  encodeU16,
  encodeU32,
  FIXED_NEWSTYLE,
  INFO,
  MAGIC_GREETING,
  MAGIC_OPTION,
  MAGIC_OPTION_REPLY,
  MAX_PAYLOAD,
  MAX_STRING,
  NO_ZEROES,
  OPTION,
  REPLY,
  REPLY_ERROR,
  TRANSMISSION,
} from './wire.ts';

const FLAGS =
  TRANSMISSION.hasFlags |
  TRANSMISSION.readOnly |
  TRANSMISSION.sendFlush |
  TRANSMISSION.sendDontFragment |
  TRANSMISSION.canMultiConnect;
/** Longest option that is taken, bytes; more is no honest client's. */
const MAX_OPTION = 64 * 1024;
/** Options that an honest client needs are a handful. */
const MAX_OPTIONS = 64;
const PREFERRED_BLOCK = 64 * 1024;

/** A cursor over an option's data; whatever isn't there makes the option invalid. */
class OptionData {
  readonly #data: Buffer;
  #at = 0;

  constructor(data: Buffer) {
    this.#data = data;
  }

  u16(): number {
    return this.#bytes(2).readUInt16BE(0);
  }

  u32(): number {
    return this.#bytes(4).readUInt32BE(0);
  }

  string(): string {
    const length = this.u32();
    if (length > MAX_STRING) throw new InvalidOption('a name is too long');
    return this.#bytes(length).toString('utf8');
  }

  #bytes(length: number): Buffer {
    if (this.#at + length > this.#data.length) throw new InvalidOption('the option ends too early');
    const bytes = this.#data.subarray(this.#at, this.#at + length);
    this.#at += length;
    return bytes;
  }
}

class InvalidOption extends Error {}

/** The server's side of the negotiation: what a client may know and choose before it reads. */
export class Reception {
  /** Id under which `base:allocation` is told. */
  static readonly ALLOCATION_ID = 1;
  /** The export that was agreed on. */
  chosen: NbdSource | undefined;
  structured = false;
  /** Whether the client chose `base:allocation`. */
  allocation = false;
  readonly #inbound: Inbound;
  readonly #socket: Socket;
  readonly #exports: ReadonlyMap<string, NbdSource>;
  #withZeroes = true;
  #contextOf: string | undefined;

  constructor(inbound: Inbound, socket: Socket, exports: ReadonlyMap<string, NbdSource>) {
    this.#inbound = inbound;
    this.#socket = socket;
    this.#exports = exports;
  }

  /** True when an export is agreed on, false when the client has left. Failure `io` when it breaks the protocol. */
  async run(): Promise<boolean> {
    const greeting = Buffer.alloc(18);
    greeting.writeBigUInt64BE(MAGIC_GREETING, 0);
    greeting.writeBigUInt64BE(MAGIC_OPTION, 8);
    greeting.writeUInt16BE(FIXED_NEWSTYLE | NO_ZEROES, 16);
    this.#socket.write(greeting);
    const answer = await this.#inbound.take(4);
    if (answer === undefined) return false;
    const flags = answer.readUInt32BE(0);
    if ((flags & FIXED_NEWSTYLE) === 0 || (flags & ~(FIXED_NEWSTYLE | NO_ZEROES)) !== 0) {
      throw new Failure('io', `NBD client has unknown flags ${flags}`);
    }
    this.#withZeroes = (flags & NO_ZEROES) === 0;
    for (let count = 0; count < MAX_OPTIONS; count++) {
      const head = await this.#inbound.take(16);
      if (head === undefined) return false;
      const option = head.readUInt32BE(8);
      const length = head.readUInt32BE(12);
      if (head.readBigUInt64BE(0) !== MAGIC_OPTION || length > MAX_OPTION) {
        throw new Failure('io', 'NBD client sent a malformed option');
      }
      const data = await this.#inbound.take(length);
      if (data === undefined) return false;
      if (option === OPTION.abort) {
        this.#reply(option, REPLY.ack);
        this.#socket.end();
        return false;
      }
      if (this.#handle(option, data)) return true;
    }
    throw new Failure('io', 'NBD client sent options without end');
  }

  /** True when that was the last option. */
  #handle(option: number, bytes: Buffer): boolean {
    try {
      return this.#option(option, new OptionData(bytes), bytes);
    } catch (error) {
      if (!(error instanceof InvalidOption)) throw error;
      this.#reply(option, REPLY_ERROR.invalid, Buffer.from(error.message));
      return false;
    }
  }

  #option(option: number, data: OptionData, bytes: Buffer): boolean {
    switch (option) {
      case OPTION.exportName:
        return this.#exportName(bytes.toString('utf8'));
      case OPTION.list:
        if (bytes.length > 0) throw new InvalidOption('a list takes no data');
        for (const name of this.#exports.keys()) this.#reply(option, REPLY.server, encodeString(name));
        this.#reply(option, REPLY.ack);
        return false;
      case OPTION.structuredReply:
        if (bytes.length > 0) throw new InvalidOption('structured replies take no data');
        this.structured = true;
        this.#reply(option, REPLY.ack);
        return false;
      case OPTION.listMetaContext:
      case OPTION.setMetaContext:
        this.#metaContext(option, data);
        return false;
      case OPTION.info:
      case OPTION.go:
        return this.#info(option, data);
      default:
        this.#reply(option, REPLY_ERROR.unsupported);
        return false;
    }
  }

  #exportName(name: string): boolean {
    const source = this.#exports.get(name);
    // This option has no error reply: the protocol's only answer is to hang up.
    if (source === undefined) throw new Failure('io', `NBD client asked for an export that isn't there: ${name}`);
    const answer = Buffer.alloc(this.#withZeroes ? 134 : 10);
    answer.writeBigUInt64BE(BigInt(source.size), 0);
    answer.writeUInt16BE(FLAGS, 8);
    this.#socket.write(answer);
    this.#choose(name, source);
    return true;
  }

  #metaContext(option: number, data: OptionData): void {
    const name = data.string();
    const queries = Array.from({ length: Math.min(data.u32(), MAX_OPTIONS) }, () => data.string());
    const set = option === OPTION.setMetaContext;
    if (set) this.#contextOf = undefined;
    if (set && !this.structured) throw new InvalidOption('structured replies come first');
    if (!this.#exports.has(name)) {
      this.#reply(option, REPLY_ERROR.unknownExport);
      return;
    }
    const everything = !set && queries.length === 0;
    if (everything || queries.includes(BASE_ALLOCATION) || (!set && queries.includes('base:'))) {
      if (set) this.#contextOf = name;
      const id = encodeU32(set ? Reception.ALLOCATION_ID : 0);
      this.#reply(option, REPLY.metaContext, Buffer.concat([id, Buffer.from(BASE_ALLOCATION)]));
    }
    this.#reply(option, REPLY.ack);
  }

  #info(option: number, data: OptionData): boolean {
    const name = data.string();
    const wanted = Array.from({ length: Math.min(data.u16(), MAX_OPTIONS) }, () => data.u16());
    const source = this.#exports.get(name);
    if (source === undefined) {
      this.#reply(option, REPLY_ERROR.unknownExport, Buffer.from(`no export "${name}"`));
      return false;
    }
    const about = Buffer.alloc(12);
    about.writeUInt16BE(INFO.export, 0);
    about.writeBigUInt64BE(BigInt(source.size), 2);
    about.writeUInt16BE(FLAGS, 10);
    this.#reply(option, REPLY.info, about);
    if (wanted.includes(INFO.name)) {
      this.#reply(option, REPLY.info, Buffer.concat([encodeU16(INFO.name), Buffer.from(name)]));
    }
    if (wanted.includes(INFO.blockSize)) {
      const sizes = encodeU32(1, PREFERRED_BLOCK, MAX_PAYLOAD);
      this.#reply(option, REPLY.info, Buffer.concat([encodeU16(INFO.blockSize), sizes]));
    }
    this.#reply(option, REPLY.ack);
    if (option !== OPTION.go) return false;
    this.#choose(name, source);
    return true;
  }

  #choose(name: string, source: NbdSource): void {
    this.chosen = source;
    this.allocation = this.#contextOf === name;
  }

  #reply(option: number, type: number, data: Uint8Array = Buffer.alloc(0)): void {
    const head = Buffer.alloc(20);
    head.writeBigUInt64BE(MAGIC_OPTION_REPLY, 0);
    head.writeUInt32BE(option, 8);
    head.writeUInt32BE(type, 12);
    head.writeUInt32BE(data.length, 16);
    this.#socket.write(Buffer.concat([head, data]));
  }
}
