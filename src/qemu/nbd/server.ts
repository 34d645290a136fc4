import { chmod, unlink } from 'node:fs/promises';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { asFailure, Failure } from '../../model/failure.ts';
import { ServerSession } from './server-session.ts';

/** A run of a source: `hole`: takes no space; `zero`: reads as zeros. */
export interface SourceExtent {
  readonly offset: number;
  readonly length: number;
  readonly hole: boolean;
  readonly zero: boolean;
}

/** Bytes of a source in pieces, so that they can be sent from where they are. */
export interface SourceBytes {
  readonly parts: readonly Uint8Array[];
  /** Called once, when the bytes have been sent or are not wanted any more: until then they must not change. */
  release?(): void;
}

/** Something that can be read like a disk. */
export interface NbdSource {
  /** Bytes. */
  readonly size: number;
  /** Exactly `length` bytes (at least one) at `offset`; the range lies in the size. Many calls may be under way. */
  read(offset: number, length: number): Promise<SourceBytes>;
  /** Runs that cover the range from its first byte on, in order, without gaps; left out: everything is data. */
  extents?(offset: number, length: number): Promise<readonly SourceExtent[]>;
}

export interface NbdServerOptions {
  /** Absolute, below 108 bytes. A socket there on which nobody listens any more is replaced. */
  readonly socketPath: string;
  /** Permissions of the socket; default 0o600. Keep it in a directory that only those may enter who may read. */
  readonly mode?: number;
  /** Told of errors of sources and of clients that break the protocol; nothing else is to be done about them. */
  readonly onError?: (error: Failure) => void;
}

const MAX_CONNECTIONS = 256;

/** A read-only NBD server on a unix socket: what QEMU, qemu-img, nbdinfo and nbdcopy can read a view through. */
export class NbdServer {
  readonly socketPath: string;
  readonly #server: Server;
  readonly #exports = new Map<string, NbdSource>();
  readonly #sessions = new Map<ServerSession, Promise<void>>();
  readonly #onError: (error: Failure) => void;

  private constructor(options: NbdServerOptions) {
    this.socketPath = options.socketPath;
    this.#onError = options.onError ?? (() => undefined);
    this.#server = createServer((socket) => this.#accept(socket));
    this.#server.maxConnections = MAX_CONNECTIONS;
  }

  /** Failures: `already-exists` (another server listens there), `io`. */
  static async listen(options: NbdServerOptions): Promise<NbdServer> {
    const server = new NbdServer(options);
    try {
      await server.#listen();
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw asFailure(error, 'io');
      if (await isServed(options.socketPath)) {
        throw new Failure('already-exists', `another server listens on ${options.socketPath}`, { cause: error });
      }
      await unlink(options.socketPath);
      await server.#listen();
    }
    await chmod(options.socketPath, options.mode ?? 0o600);
    return server;
  }

  /** Offers a source under a name of at most 4,096 bytes; any that comes later connects to it by that name. */
  addExport(name: string, source: NbdSource): void {
    if (this.#exports.has(name)) throw new Failure('already-exists', `NBD export ${name} exists already`);
    this.#exports.set(name, source);
  }

  /** Ends an export and its connections. When this resolves its source is read no more. None there is no error. */
  async removeExport(name: string): Promise<void> {
    const source = this.#exports.get(name);
    if (source === undefined) return;
    this.#exports.delete(name);
    await this.#end((session) => session.source === source);
  }

  /** Connections that have chosen an export of that name. */
  connections(name: string): number {
    const source = this.#exports.get(name);
    return [...this.#sessions.keys()].filter((session) => source !== undefined && session.source === source).length;
  }

  /** Ends all connections and the socket. When this resolves no source is read any more. */
  async close(): Promise<void> {
    const closed = Promise.withResolvers<void>();
    this.#server.close(() => closed.resolve());
    this.#exports.clear();
    await this.#end(() => true);
    await closed.promise;
  }

  async #end(which: (session: ServerSession) => boolean): Promise<void> {
    const ending = [...this.#sessions].filter(([session]) => which(session));
    for (const [session] of ending) session.destroy();
    await Promise.all(ending.map(([, ended]) => ended));
  }

  #accept(socket: Socket): void {
    const session = new ServerSession(socket, this.#exports, this.#onError);
    const ended = session.run().finally(() => this.#sessions.delete(session));
    this.#sessions.set(session, ended);
  }

  async #listen(): Promise<void> {
    const listening = Promise.withResolvers<void>();
    this.#server.once('error', listening.reject);
    this.#server.listen(this.socketPath, () => listening.resolve());
    await listening.promise;
    this.#server.off('error', listening.reject);
    this.#server.on('error', (error) => this.#onError(asFailure(error, 'io')));
  }
}

/** Whether somebody accepts connections on a unix socket. */
async function isServed(path: string): Promise<boolean> {
  const answer = Promise.withResolvers<boolean>();
  const probe = connect({ path });
  probe.once('connect', () => answer.resolve(true));
  probe.once('error', (error: NodeJS.ErrnoException) => answer.resolve(error.code !== 'ECONNREFUSED'));
  try {
    return await answer.promise;
  } finally {
    probe.destroy();
  }
}
