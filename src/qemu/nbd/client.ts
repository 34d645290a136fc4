import { asFailure, Failure } from '../../model/failure.ts';
import { ExtentList, type StatusExtent } from './extents.ts';
import { Intake } from './intake.ts';
import { type ExportInfo, Negotiation } from './negotiation.ts';
import { Replies } from './replies.ts';
import { Request } from './request.ts';
import { COMMAND, COMMAND_FLAG, encodeRequest, TRANSMISSION } from './wire.ts';

export interface NbdAddress {
  /** Absolute path of the server's unix socket. */
  readonly socketPath: string;
  readonly exportName: string;
}

export interface NbdConnectOptions extends NbdAddress {
  /** Meta contexts that `extents` will be asked for; the connection fails with `not-found` if one isn't there. */
  readonly metaContexts?: readonly string[];
  /** For connecting and agreeing, ms; default 10,000. Requests themselves have no time limit: see `destroy`. */
  readonly timeoutMs?: number;
}

/** Longest range of a zero or trim request, bytes. */
const MAX_RANGE = 0x4000_0000;
/** Of a block status request: it does nothing, and its length has 32 bits. */
const MAX_STATUS_RANGE = 0xffff_0000;
const CLOSE_TIMEOUT_MS = 5000;

/**
 * A client of one NBD export on a unix socket. Any number of requests may be under way; the caller bounds them (for
 * reading, about 4 × 1 MiB is fastest on small machines). Offsets and lengths are bytes and must lie in the export.
 *
 * Every operation may fail with `io` or `no-space` (the server refused it), `interrupted` (the connection ended: it
 * is not known whether what was under way was done) or `disk-engine` (the server broke the protocol).
 */
export class NbdClient {
  readonly address: NbdAddress;
  readonly info: ExportInfo;
  /** Resolves when the connection has ended, whoever ended it. */
  readonly closed: Promise<void>;
  readonly #who: string;
  readonly #intake: Intake;
  readonly #open: Map<number, Request>;
  #nextHandle = 1;
  #end: Failure | undefined;

  private constructor(address: NbdAddress, info: ExportInfo, who: string, intake: Intake, closed: Promise<void>) {
    this.address = address;
    this.info = info;
    this.#who = who;
    this.#intake = intake;
    this.#open = new Map();
    this.closed = closed;
    intake.socket.on('error', (error) => this.#ended(error));
    intake.socket.on('close', () => this.#ended());
    new Replies(intake, who, this.#open, info.structured).start();
  }

  /** Failures: `unreachable`, `timeout`, `not-found` (export or context), `disk-engine`. */
  static async connect(options: NbdConnectOptions): Promise<NbdClient> {
    const { socketPath, exportName, metaContexts = [], timeoutMs = 10_000 } = options;
    const who = `NBD export "${exportName}" at ${socketPath}`;
    const intake = new Intake(socketPath);
    const closed = Promise.withResolvers<void>();
    const lost = Promise.withResolvers<never>();
    lost.promise.catch(() => undefined); // after the negotiation the client itself tells of the loss
    const lose = (error?: Error): void => lost.reject(cannotConnect(who, error));
    intake.socket.once('error', lose);
    intake.socket.once('close', () => {
      lose();
      closed.resolve();
    });
    const timer = setTimeout(
      () => lost.reject(new Failure('timeout', `${who}: no agreement in ${timeoutMs} ms`)),
      timeoutMs,
    );
    try {
      const info = await Promise.race([new Negotiation(intake, exportName, who).run(metaContexts), lost.promise]);
      return new NbdClient({ socketPath, exportName }, info, who, intake, closed.promise);
    } catch (error) {
      intake.socket.destroy();
      throw asFailure(error, 'disk-engine');
    } finally {
      clearTimeout(timer);
    }
  }

  /** Size of the export, bytes. */
  get size(): number {
    return this.info.size;
  }

  get readOnly(): boolean {
    return (this.info.flags & TRANSMISSION.readOnly) !== 0;
  }

  get canFlush(): boolean {
    return (this.info.flags & TRANSMISSION.sendFlush) !== 0;
  }

  get canTrim(): boolean {
    return (this.info.flags & TRANSMISSION.sendTrim) !== 0;
  }

  get canWriteZeroes(): boolean {
    return (this.info.flags & TRANSMISSION.sendWriteZeroes) !== 0;
  }

  get minBlock(): number {
    return this.info.minBlock;
  }

  get maxBlock(): number {
    return this.info.maxBlock;
  }

  /** Requests under way. */
  get inFlight(): number {
    return this.#open.size;
  }

  async read(offset: number, length: number): Promise<Buffer<ArrayBuffer>> {
    this.#check('read', offset, length);
    const target = Buffer.allocUnsafe(length);
    await this.readInto(target, offset);
    return target;
  }

  /** Fills the whole target. It belongs to the connection until the promise settles. */
  async readInto(target: Uint8Array, offset: number): Promise<void> {
    await this.#inParts('read', offset, target.length, this.maxBlock, (at, length) => {
      const part = target.subarray(at - offset, at - offset + length);
      return this.#send('read', COMMAND.read, 0, at, length, { target: part });
    });
  }

  /** Writes all of `data`, which must not change until the promise settles. `fua`: durable when it does. */
  async write(offset: number, data: Uint8Array, options: { fua?: boolean } = {}): Promise<void> {
    const flags = this.#fua(options.fua);
    await this.#inParts('write', offset, data.length, this.maxBlock, (at, length) => {
      const payload = data.subarray(at - offset, at - offset + length);
      return this.#send('write', COMMAND.write, flags, at, length, { payload });
    });
  }

  /** Makes the range read as zeros. `mayUnmap`: space may be given back. */
  async writeZeroes(offset: number, length: number, options: { mayUnmap: boolean; fua?: boolean }): Promise<void> {
    if (!this.canWriteZeroes) throw new Failure('disk-engine', `${this.#who} can't write zeros`);
    const flags = this.#fua(options.fua) | (options.mayUnmap ? 0 : COMMAND_FLAG.noHole);
    await this.#inParts('write zeros', offset, length, MAX_RANGE, (at, part) =>
      this.#send('write zeros', COMMAND.writeZeroes, flags, at, part),
    );
  }

  /** Says that the content of the range isn't needed; what it reads as afterwards isn't defined. */
  async trim(offset: number, length: number): Promise<void> {
    if (!this.canTrim) throw new Failure('disk-engine', `${this.#who} can't trim`);
    await this.#inParts('trim', offset, length, MAX_RANGE, (at, part) => this.#send('trim', COMMAND.trim, 0, at, part));
  }

  /** Makes durable whatever completed before the call. */
  async flush(): Promise<void> {
    if (!this.canFlush) throw new Failure('disk-engine', `${this.#who} can't flush`);
    await this.#send('flush', COMMAND.flush, 0, 0, 0).done;
  }

  /** Extents of one of the connection's meta contexts: exactly the range, in order, neighbours with equal flags merged. */
  async extents(context: string, offset: number, length: number): Promise<StatusExtent[]> {
    this.#check('block status', offset, length);
    const id = this.info.contexts.get(context);
    if (id === undefined) throw new Failure('internal', `${this.#who}: meta context ${context} wasn't asked for`);
    const list = new ExtentList(offset, length);
    const end = offset + length;
    while (!list.complete) {
      const from = list.at;
      const request = this.#send('block status', COMMAND.blockStatus, 0, from, Math.min(end - from, MAX_STATUS_RANGE));
      await request.done;
      const runs = request.runs.get(id) ?? [];
      if (runs.length === 0) throw request.broken(`no extents of ${context}`);
      list.add(from, runs);
    }
    return list.extents;
  }

  /** Waits for what is under way, takes leave of the server and ends the connection. */
  async close(): Promise<void> {
    this.#end ??= this.#closing();
    await Promise.allSettled([...this.#open.values()].map((request) => request.done));
    if (!this.#intake.socket.destroyed) this.#intake.socket.end(encodeRequest(COMMAND.disconnect, 0, 0, 0, 0));
    const timer = setTimeout(() => this.#intake.socket.destroy(), CLOSE_TIMEOUT_MS);
    await this.closed;
    clearTimeout(timer);
  }

  /** Ends the connection at once; what is under way fails with `reason` (default `interrupted`). */
  destroy(reason?: Failure): void {
    this.#ended(reason ?? this.#closing());
    this.#intake.socket.destroy();
  }

  #closing(): Failure {
    return new Failure('interrupted', `${this.#who}: this side closed the connection`);
  }

  #fua(asked = false): number {
    if (!asked) return 0;
    if ((this.info.flags & TRANSMISSION.sendFua) === 0) throw new Failure('disk-engine', `${this.#who} has no FUA`);
    return COMMAND_FLAG.fua;
  }

  #check(verb: string, offset: number, length: number): void {
    const sound = Number.isSafeInteger(offset) && Number.isSafeInteger(length) && offset >= 0 && length >= 0;
    if (!sound || offset + length > this.size) {
      throw new Failure(
        'internal',
        `${this.#who}: ${verb} of ${length} bytes at ${offset} doesn't lie in its ${this.size} bytes`,
      );
    }
  }

  async #inParts(
    verb: string,
    offset: number,
    length: number,
    most: number,
    send: (at: number, length: number) => Request,
  ): Promise<void> {
    this.#check(verb, offset, length);
    if (length <= most) {
      if (length > 0) await send(offset, length).done;
      return;
    }
    const parts: Request[] = [];
    for (let at = offset; at < offset + length; at += most) {
      parts.push(send(at, Math.min(most, offset + length - at)));
    }
    // All of them, even after a failure: nobody may touch the buffer while a part of it is still under way.
    const ends = await Promise.allSettled(parts.map((part) => part.done));
    const failed = ends.find((end) => end.status === 'rejected');
    if (failed !== undefined) throw failed.reason;
  }

  #send(
    verb: string,
    command: number,
    flags: number,
    offset: number,
    length: number,
    bytes: { target?: Uint8Array; payload?: Uint8Array } = {},
  ): Request {
    const { target, payload } = bytes;
    const request = new Request({ verb, who: this.#who, offset, length, ...(target === undefined ? {} : { target }) });
    if (this.#end !== undefined) {
      request.abandon(this.#end);
      return request;
    }
    const handle = this.#handle();
    this.#open.set(handle, request);
    const { socket } = this.#intake;
    const head = encodeRequest(command, flags, handle, offset, length);
    if (payload === undefined) {
      socket.write(head);
    } else {
      socket.cork(); // header and payload in one system call, without a copy
      socket.write(head);
      socket.write(payload);
      socket.uncork();
    }
    return request;
  }

  #handle(): number {
    do this.#nextHandle = (this.#nextHandle + 1) >>> 0;
    while (this.#open.has(this.#nextHandle));
    return this.#nextHandle;
  }

  #ended(cause?: Error): void {
    const why = cause === undefined ? 'the server ended the connection' : cause.message;
    const failure = cause instanceof Failure ? cause : new Failure('interrupted', `${this.#who}: ${why}`, { cause });
    this.#end ??= failure;
    const open = [...this.#open.values()];
    this.#open.clear();
    for (const request of open) request.abandon(failure);
  }
}

function cannotConnect(who: string, error?: Error): Failure {
  if (error instanceof Failure) return error;
  if (error === undefined) return new Failure('unreachable', `${who}: the server ended the connection`);
  return new Failure('unreachable', `${who}: ${error.message}`, { cause: error });
}
