import { Failure } from '../../model/failure.ts';
import type { Intake } from './intake.ts';
import {
  encodeOption,
  encodeString,
  encodeU16,
  encodeU32,
  FIXED_NEWSTYLE,
  INFO,
  MAGIC_GREETING,
  MAGIC_OPTION,
  MAGIC_OPTION_REPLY,
  MAX_PAYLOAD,
  NO_ZEROES,
  narrow,
  OPTION,
  REPLY,
  REPLY_ERROR,
  REPLY_ERROR_BIT,
} from './wire.ts';

/** What a server says about an export. */
export interface ExportInfo {
  /** Bytes. */
  readonly size: number;
  /** Bits of `TRANSMISSION`. */
  readonly flags: number;
  /** Offsets and lengths should be multiples of it; bytes. */
  readonly minBlock: number;
  /** Largest read or write, bytes; never above 32 MiB. */
  readonly maxBlock: number;
  /** Whether reads come in chunks and extents can be asked for. */
  readonly structured: boolean;
  /** Meta contexts granted, by name, with the id that the server gave them. */
  readonly contexts: ReadonlyMap<string, number>;
}

interface OptionReply {
  readonly type: number;
  readonly data: Buffer;
}

/** Longest option reply that is believed, bytes. */
const MAX_REPLY = 64 * 1024;

/** Agrees with a server on an export, up to the point from which requests may be sent. */
export class Negotiation {
  readonly #intake: Intake;
  readonly #exportName: string;
  readonly #who: string;

  /** @param who names server and export in errors */
  constructor(intake: Intake, exportName: string, who: string) {
    this.#intake = intake;
    this.#exportName = exportName;
    this.#who = who;
  }

  /** Failures: `not-found` (no such export, or it lacks one of the contexts), `disk-engine` (refused, or not NBD). */
  async run(metaContexts: readonly string[]): Promise<ExportInfo> {
    await this.#greet();
    const structured = await this.#structuredReplies();
    const contexts = new Map<string, number>();
    if (metaContexts.length > 0) {
      if (structured) await this.#setMetaContexts(metaContexts, contexts);
      const missing = metaContexts.filter((name) => !contexts.has(name));
      if (missing.length > 0) throw new Failure('not-found', `${this.#who} has no meta context ${missing.join(', ')}`);
    }
    return { structured, contexts, ...(await this.#go()) };
  }

  async #greet(): Promise<void> {
    const greeting = await this.#intake.take(18);
    if (greeting.readBigUInt64BE(0) !== MAGIC_GREETING || greeting.readBigUInt64BE(8) !== MAGIC_OPTION) {
      throw this.#broken("greeting isn't that of a newstyle NBD server");
    }
    const flags = greeting.readUInt16BE(16);
    if ((flags & FIXED_NEWSTYLE) === 0) throw this.#broken('server has no fixed newstyle negotiation');
    this.#intake.socket.write(encodeU32(FIXED_NEWSTYLE | (flags & NO_ZEROES)));
  }

  async #structuredReplies(): Promise<boolean> {
    this.#send(OPTION.structuredReply);
    const reply = await this.#reply(OPTION.structuredReply);
    if (reply.type === REPLY.ack) return true;
    if (reply.type === REPLY_ERROR.unsupported) return false;
    throw this.#refused('structured replies', reply);
  }

  async #setMetaContexts(names: readonly string[], granted: Map<string, number>): Promise<void> {
    const queries = names.map((name) => encodeString(name));
    this.#send(
      OPTION.setMetaContext,
      Buffer.concat([encodeString(this.#exportName), encodeU32(names.length), ...queries]),
    );
    for (;;) {
      const reply = await this.#reply(OPTION.setMetaContext);
      if (reply.type === REPLY.ack) return;
      if (reply.type !== REPLY.metaContext || reply.data.length < 4) throw this.#refused('meta contexts', reply);
      granted.set(reply.data.toString('utf8', 4), reply.data.readUInt32BE(0));
    }
  }

  async #go(): Promise<{ size: number; flags: number; minBlock: number; maxBlock: number }> {
    this.#send(OPTION.go, Buffer.concat([encodeString(this.#exportName), encodeU16(1), encodeU16(INFO.blockSize)]));
    let size: number | undefined;
    let flags = 0;
    let minBlock = 1;
    let maxBlock = MAX_PAYLOAD;
    for (;;) {
      const { type, data } = await this.#reply(OPTION.go);
      if (type === REPLY.ack) {
        if (size === undefined) throw this.#broken('server gave no size of the export');
        return { size, flags, minBlock, maxBlock };
      }
      if (type !== REPLY.info) throw this.#refused('the export', { type, data });
      const kind = data.length < 2 ? -1 : data.readUInt16BE(0);
      if (kind === INFO.export && data.length === 12) {
        size = narrow(data.readBigUInt64BE(2));
        if (size === undefined) throw this.#broken('export is of 2^53 bytes or more');
        flags = data.readUInt16BE(10);
      } else if (kind === INFO.blockSize && data.length === 14) {
        minBlock = data.readUInt32BE(2);
        maxBlock = Math.min(MAX_PAYLOAD, data.readUInt32BE(10));
        if (minBlock < 1 || maxBlock < minBlock) throw this.#broken(`block sizes ${minBlock}..${maxBlock}`);
      }
    }
  }

  #send(option: number, data?: Uint8Array): void {
    this.#intake.socket.write(encodeOption(option, data));
  }

  async #reply(option: number): Promise<OptionReply> {
    const head = await this.#intake.take(20);
    const length = head.readUInt32BE(16);
    if (head.readBigUInt64BE(0) !== MAGIC_OPTION_REPLY || head.readUInt32BE(8) !== option || length > MAX_REPLY) {
      throw this.#broken(`answer to option ${option} is malformed`);
    }
    return { type: head.readUInt32BE(12), data: await this.#intake.take(length) };
  }

  #refused(what: string, reply: OptionReply): Failure {
    if (reply.type === REPLY_ERROR.unknownExport) return new Failure('not-found', `${this.#who}: no such export`);
    if ((reply.type & REPLY_ERROR_BIT) === 0) return this.#broken(`unexpected answer ${reply.type} about ${what}`);
    const text = reply.data.toString('utf8');
    return new Failure('disk-engine', `${this.#who} refused ${what}: ${text} (0x${reply.type.toString(16)})`);
  }

  #broken(what: string): Failure {
    return new Failure('disk-engine', `${this.#who}: ${what}`);
  }
}
