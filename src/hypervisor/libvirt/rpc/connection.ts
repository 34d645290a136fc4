import { connect, type Socket } from 'node:net';
import { Failure } from '../../../model/failure.ts';
import { failureOf, readVirError } from './error.ts';
import { XdrReader, XdrWriter } from './xdr.ts';

/** Programs of the protocol: libvirt's main one, QEMU's own calls, and keepalive. */
export const PROGRAM = { remote: 0x20008086, keepalive: 0x6b656570 } as const;

const HEADER_BYTES = 28;
/** Largest message that libvirt allows, in bytes. */
const MAX_MESSAGE = 32 * 1024 * 1024 + 4;
const TYPE = { call: 0, reply: 1, message: 2 } as const;
const STATUS_ERROR = 1;
const KEEPALIVE = { ping: 1, pong: 2 } as const;

interface Waiting {
  readonly name: string;
  readonly timer: NodeJS.Timeout;
  resolve(body: XdrReader): void;
  reject(error: Failure): void;
}

/**
 * One connection to libvirtd (or virtqemud) on its unix socket: frames, serial numbers, replies. Calls may overlap;
 * libvirt answers in any order. Once broken it stays broken; `Session` makes the next one.
 */
export class Connection {
  readonly #socket: Socket;
  readonly #path: string;
  readonly #waiting = new Map<number, Waiting>();
  #serial = 0;
  #received: Buffer[] = [];
  #receivedBytes = 0;
  #broken: Failure | undefined;

  private constructor(socket: Socket, path: string) {
    this.#socket = socket;
    this.#path = path;
    socket.on('data', (chunk) => this.#receive(chunk));
    socket.on('error', (error) => this.#break(`the connection to libvirt at ${path} broke: ${error.message}`, error));
    socket.on('close', () => this.#break(`libvirt at ${path} closed the connection`));
  }

  /** Connects. Failure `libvirt-down` when nobody listens. */
  static open(path: string): Promise<Connection> {
    return new Promise((resolve, reject) => {
      const socket = connect(path);
      socket.once('error', (error) =>
        reject(new Failure('libvirt-down', `libvirt does not answer at ${path}: ${error.message}`, { cause: error })),
      );
      socket.once('connect', () => {
        socket.removeAllListeners('error');
        resolve(new Connection(socket, path));
      });
    });
  }

  get broken(): boolean {
    return this.#broken !== undefined;
  }

  /**
   * Calls a procedure.
   * @param name of the call, for messages.
   * @param timeoutMs after which it rejects with `timeout`; libvirt goes on with it all the same.
   */
  call(procedure: number, name: string, args: Buffer, timeoutMs: number): Promise<XdrReader> {
    if (this.#broken !== undefined) return Promise.reject(this.#broken);
    const serial = ++this.#serial;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#waiting.delete(serial);
        reject(new Failure('timeout', `libvirt at ${this.#path} did not answer ${name} within ${timeoutMs} ms`));
      }, timeoutMs);
      this.#waiting.set(serial, { name, timer, resolve, reject });
      this.#send(PROGRAM.remote, procedure, TYPE.call, serial, args);
    });
  }

  close(): void {
    this.#break(`the connection to libvirt at ${this.#path} is closed`);
  }

  #send(program: number, procedure: number, type: number, serial: number, body: Buffer): void {
    const header = new XdrWriter()
      .uint(HEADER_BYTES + body.length)
      .uint(program)
      .uint(1)
      .int(procedure)
      .int(type);
    this.#socket.write(Buffer.concat([header.uint(serial).int(0).finish(), body]));
  }

  #receive(chunk: Buffer): void {
    this.#received.push(chunk);
    this.#receivedBytes += chunk.length;
    while (this.#receivedBytes >= 4) {
      const all = this.#received.length === 1 ? this.#received[0]! : Buffer.concat(this.#received);
      this.#received = [all];
      const length = all.readUInt32BE(0);
      if (length < HEADER_BYTES || length > MAX_MESSAGE) {
        this.#break(`libvirt at ${this.#path} sent a message of ${length} bytes`);
        return;
      }
      if (all.length < length) return;
      this.#received = [all.subarray(length)];
      this.#receivedBytes -= length;
      try {
        this.#dispatch(all.subarray(4, length));
      } catch (error) {
        this.#break(`libvirt at ${this.#path} sent a message that can't be read: ${String(error)}`);
        return;
      }
    }
  }

  #dispatch(message: Buffer): void {
    const reader = new XdrReader(message);
    const program = reader.uint();
    reader.uint(); // version: 1 in every program
    const procedure = reader.int();
    const type = reader.int();
    const serial = reader.uint();
    const status = reader.int();
    if (program === PROGRAM.keepalive) {
      if (procedure === KEEPALIVE.ping) this.#send(program, KEEPALIVE.pong, TYPE.message, 0, Buffer.alloc(0));
      return;
    }
    if (type !== TYPE.reply) return; // an event; we subscribe to none
    const waiting = this.#waiting.get(serial);
    if (waiting === undefined) return; // its caller has given up
    const failure = status === STATUS_ERROR ? failureOf(readVirError(reader), waiting.name) : undefined;
    this.#waiting.delete(serial);
    clearTimeout(waiting.timer);
    if (failure === undefined) waiting.resolve(reader);
    else waiting.reject(failure);
  }

  #break(message: string, cause?: Error): void {
    if (this.#broken !== undefined) return;
    this.#broken = new Failure('libvirt-down', message, cause === undefined ? {} : { cause });
    this.#socket.destroy();
    for (const waiting of this.#waiting.values()) {
      clearTimeout(waiting.timer);
      waiting.reject(this.#broken);
    }
    this.#waiting.clear();
  }
}
