import { connect, type Socket } from 'node:net';
import { Wake } from '../lib/wake.ts';
import { Failure } from '../model/failure.ts';

/** What QEMU said to a command that it refused; the `cause` of the Failure that `execute` throws. */
export class QmpError extends Error {
  override readonly name = 'QmpError';
  /** QEMU's error class: `GenericError`, `DeviceNotFound`, `CommandNotFound`, … */
  readonly errorClass: string;

  constructor(errorClass: string, desc: string) {
    super(desc);
    this.errorClass = errorClass;
  }
}

export interface QmpEvent {
  readonly event: string;
  readonly data: Readonly<Record<string, unknown>>;
}

interface Waiting {
  readonly command: string;
  resolve(value: unknown): void;
  reject(error: Error): void;
}

interface Message {
  QMP?: unknown;
  id?: number;
  return?: unknown;
  error?: { class: string; desc: string };
  event?: string;
  data?: Record<string, unknown>;
}

const DEFAULT_TIMEOUT_MS = 30_000;

/** A QEMU Machine Protocol session: commands in, answers and events out. Many commands may be under way. */
export class Qmp {
  /** Resolves when the connection has ended, whoever ended it. */
  readonly closed: Promise<void>;
  readonly #socket: Socket;
  readonly #name: string;
  readonly #waiting = new Map<number, Waiting>();
  readonly #listeners = new Map<string, Set<(event: QmpEvent) => void>>();
  readonly #greeting = Promise.withResolvers<void>();
  /** Called when the connection has ended. */
  readonly #over = new Wake();
  #nextId = 1;
  #partial: string[] = [];
  #end: Failure | undefined;

  private constructor(socket: Socket, name: string) {
    this.#socket = socket;
    this.#name = name;
    const closed = Promise.withResolvers<void>();
    this.closed = closed.promise;
    this.#greeting.promise.catch(() => undefined); // whoever opens the session waits for it; nobody else has to
    socket.setEncoding('utf8');
    socket.on('data', (text: string) => this.#received(text));
    socket.on('error', (error) => this.#ended(error));
    const end = (): void => {
      this.#ended();
      closed.resolve();
    };
    if (socket.closed) end(); // a child that ended at once: its `close` has been told already
    else socket.on('close', end);
  }

  /** Connects to a monitor's unix socket. Failures: `unreachable`, `timeout`, `disk-engine`. */
  static async connect(socketPath: string, options: { timeoutMs?: number } = {}): Promise<Qmp> {
    const socket = connect({ path: socketPath });
    return await Qmp.over(socket, `QMP socket ${socketPath}`, options);
  }

  /** Speaks QMP on a stream that is there already. `name` says in errors what it is. */
  static async over(socket: Socket, name: string, options: { timeoutMs?: number } = {}): Promise<Qmp> {
    const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    const qmp = new Qmp(socket, name);
    const timer = setTimeout(
      () => qmp.#greeting.reject(new Failure('timeout', `${name} gave no greeting in ${timeoutMs} ms`)),
      timeoutMs,
    );
    try {
      await qmp.#greeting.promise;
      await qmp.execute('qmp_capabilities', {}, { timeoutMs });
      return qmp;
    } catch (error) {
      socket.destroy();
      throw error;
    } finally {
      clearTimeout(timer);
    }
  }

  /**
   * Runs a command and gives what it returns. Failures: `disk-engine` (QEMU refused, with a `QmpError` as cause, or the
   * connection ended), `timeout` after `timeoutMs` (default 30 s): QEMU may still carry it out.
   */
  async execute<T = unknown>(
    command: string,
    args: Readonly<Record<string, unknown>> = {},
    options: { timeoutMs?: number } = {},
  ): Promise<T> {
    if (this.#end !== undefined) throw this.#end;
    const timeoutMs = options.timeoutMs ?? DEFAULT_TIMEOUT_MS;
    const id = this.#nextId++;
    let timer: NodeJS.Timeout | undefined;
    try {
      return await new Promise<T>((resolve, reject) => {
        this.#waiting.set(id, { command, resolve: (value) => resolve(value as T), reject });
        timer = setTimeout(
          () => reject(new Failure('timeout', `${this.#name}: ${command} gave no answer in ${timeoutMs} ms`)),
          timeoutMs,
        );
        this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
      });
    } finally {
      clearTimeout(timer);
      this.#waiting.delete(id);
    }
  }

  /** Calls `listener` for every event of that name; gives the function that ends it. */
  on(event: string, listener: (event: QmpEvent) => void): () => void {
    const listeners = this.#listeners.get(event) ?? new Set();
    this.#listeners.set(event, listeners.add(listener));
    return () => void listeners.delete(listener);
  }

  /**
   * The next event of that name for which `predicate` holds. Begin to wait before the command that causes it. Failures:
   * `timeout`, `disk-engine` when the connection ends first.
   */
  async waitFor(event: string, predicate: (event: QmpEvent) => boolean, timeoutMs: number): Promise<QmpEvent> {
    if (this.#end !== undefined) throw this.#end;
    const found = Promise.withResolvers<QmpEvent>();
    const off = this.on(event, (seen) => {
      if (predicate(seen)) found.resolve(seen);
    });
    const timer = setTimeout(
      () => found.reject(new Failure('timeout', `${this.#name}: no event ${event} in ${timeoutMs} ms`)),
      timeoutMs,
    );
    const offOver = this.#over.listen(() => found.reject(this.#end));
    try {
      return await found.promise;
    } finally {
      clearTimeout(timer);
      off();
      offOver();
    }
  }

  /** Ends the session; what is under way fails. */
  async close(): Promise<void> {
    this.#socket.destroy();
    await this.closed;
  }

  #received(text: string): void {
    const lines = text.split('\n');
    const rest = lines.pop() ?? '';
    for (const line of lines) {
      this.#partial.push(line);
      const whole = this.#partial.join('').trim();
      this.#partial = [];
      if (whole !== '') this.#line(whole);
    }
    if (rest !== '') this.#partial.push(rest);
  }

  #line(line: string): void {
    let message: Message;
    try {
      message = JSON.parse(line) as Message;
    } catch (cause) {
      this.#socket.destroy(
        new Failure('disk-engine', `${this.#name} said something that isn't QMP: ${line.slice(0, 200)}`, { cause }),
      );
      return;
    }
    if (message.QMP !== undefined) this.#greeting.resolve();
    else if (message.event !== undefined) this.#emit({ event: message.event, data: message.data ?? {} });
    else if (message.id !== undefined) this.#answer(message.id, message);
  }

  #answer(id: number, message: Message): void {
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return; // the answer to a command that timed out
    if (message.error === undefined) {
      waiting.resolve(message.return);
      return;
    }
    const cause = new QmpError(message.error.class, message.error.desc);
    waiting.reject(new Failure('disk-engine', `${this.#name}: ${waiting.command}: ${cause.message}`, { cause }));
  }

  #emit(event: QmpEvent): void {
    for (const listener of this.#listeners.get(event.event) ?? []) listener(event);
  }

  #lost(while_: string, cause?: Error): Failure {
    const code =
      cause !== undefined && 'syscall' in cause && cause.syscall === 'connect' ? 'unreachable' : 'disk-engine';
    const why = cause === undefined ? 'the connection ended' : cause.message;
    return new Failure(code, `${this.#name}: ${why} (${while_})`, { cause });
  }

  #ended(cause?: Error): void {
    if (this.#end !== undefined) return;
    this.#end = cause instanceof Failure ? cause : this.#lost('no session', cause);
    this.#greeting.reject(this.#end);
    for (const waiting of this.#waiting.values()) {
      waiting.reject(cause instanceof Failure ? cause : this.#lost(waiting.command, cause));
    }
    this.#over.call();
  }
}
