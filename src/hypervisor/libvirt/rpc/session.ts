import { existsSync } from 'node:fs';
import { Failure } from '../../../model/failure.ts';
import { Connection } from './connection.ts';
import { XdrWriter, type XdrReader } from './xdr.ts';

const AUTH_NONE = 0;
const PROCEDURE = { connectOpen: 1, connectClose: 2, authList: 66 } as const;
const OPEN_TIMEOUT_MS = 15_000;

/** Where libvirt listens: the monolithic daemon's socket, or the QEMU driver's own where daemons are modular. */
export function defaultSocketPath(): string {
  const monolithic = '/run/libvirt/libvirt-sock';
  const modular = '/run/libvirt/virtqemud-sock';
  return !existsSync(monolithic) && existsSync(modular) ? modular : monolithic;
}

/** A libvirt connection to `qemu:///system` that is made on first use and made again after it broke. */
export class Session {
  readonly socketPath: string;
  #current: Promise<Connection> | undefined;
  #closed = false;

  constructor(socketPath: string) {
    this.socketPath = socketPath;
  }

  /** Calls a procedure on the present connection, or on a new one. A call is never sent twice. */
  async call(procedure: number, name: string, args: Buffer, timeoutMs: number): Promise<XdrReader> {
    const connection = await this.#connection();
    return await connection.call(procedure, name, args, timeoutMs);
  }

  async close(): Promise<void> {
    this.#closed = true;
    const current = this.#current;
    this.#current = undefined;
    if (current === undefined) return;
    const connection = await current.catch(() => undefined); // one that never came to be needs no end
    if (connection === undefined) return;
    try {
      await connection.call(PROCEDURE.connectClose, 'connectClose', Buffer.alloc(0), 2000);
    } catch (error) {
      if (!(error instanceof Failure)) throw error; // we wanted it gone, and gone it is
    }
    connection.close();
  }

  async #connection(): Promise<Connection> {
    if (this.#closed) throw new Failure('libvirt-down', 'this libvirt connection has been closed by us');
    const current = this.#current;
    if (current !== undefined && !(await isBroken(current))) return current;
    if (this.#current === current) this.#current = this.#open();
    return this.#current!;
  }

  async #open(): Promise<Connection> {
    const connection = await Connection.open(this.socketPath);
    try {
      const nothing = Buffer.alloc(0);
      const auth = await connection.call(PROCEDURE.authList, 'authList', nothing, OPEN_TIMEOUT_MS);
      const types = auth.array((reader) => reader.int());
      if (types.length > 0 && !types.includes(AUTH_NONE)) {
        throw new Failure('libvirt', `libvirt at ${this.socketPath} wants authentication of type ${types.join(', ')}`, {
          hint: 'Run understudyd as root, or as a user for whom libvirtd.conf sets auth_unix_rw = "none".',
        });
      }
      const open = new XdrWriter().optionalString('qemu:///system').uint(0).finish();
      await connection.call(PROCEDURE.connectOpen, 'connectOpen', open, OPEN_TIMEOUT_MS);
      return connection;
    } catch (error) {
      connection.close();
      throw error;
    }
  }
}

async function isBroken(connection: Promise<Connection>): Promise<boolean> {
  try {
    return (await connection).broken;
  } catch {
    return true; // it never came to be
  }
}
