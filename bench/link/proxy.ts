/**
 * A TCP proxy that is as far away, as narrow and as small in its window as a real link. A process of its own, steered over
 * IPC: see `link.ts`. Each direction has its rate for all connections together. What a connection has sent counts as in flight until
 * its acknowledgement would be back: bytes in flight ÷ round trip is the most that one connection carries.
 */
import { connect, createServer, type Socket, type TcpNetConnectOpts } from 'node:net';
import type { Instruction, LinkOptions, LinkReport } from './link.ts';

const READ_BYTES = 64 * 1024;

/** The wire of one direction: one byte after the other, whoever's. */
class Wire {
  /** When it is free again, ms. */
  #free = 0;
  bytes = 0;

  /** Puts bytes on the wire; gives when the last has left. */
  send(bytes: number, bytesPerSecond: number | null): number {
    this.bytes += bytes;
    const now = performance.now();
    const begins = Math.max(now, this.#free);
    this.#free = bytesPerSecond === null ? begins : begins + (bytes / bytesPerSecond) * 1000;
    return this.#free;
  }
}

/** Does work when it is due, in the order in which it was given: timers alone may change places. */
class Later {
  readonly #queue: { due: number; work: () => void }[] = [];
  #waiting = false;

  at(due: number, work: () => void): void {
    this.#queue.push({ due: Math.max(due, this.#queue.at(-1)?.due ?? 0), work });
    if (!this.#waiting) this.#wait();
  }

  #wait(): void {
    while (this.#queue.length > 0 && this.#queue[0]!.due <= performance.now()) this.#queue.shift()!.work();
    this.#waiting = this.#queue.length > 0;
    if (this.#waiting) setTimeout(() => this.#wait(), Math.max(1, this.#queue[0]!.due - performance.now()));
  }
}

/** One direction of one connection. */
class Flow {
  readonly #from: Socket;
  readonly #to: Socket;
  readonly #wire: Wire;
  readonly #options: () => LinkOptions;
  readonly #arrivals = new Later();
  readonly #acknowledgements = new Later();
  #inFlight = 0;

  constructor(from: Socket, to: Socket, wire: Wire, options: () => LinkOptions) {
    this.#from = from;
    this.#to = to;
    this.#wire = wire;
    this.#options = options;
    from.on('data', (bytes: Buffer) => this.#taken(bytes));
    from.on('end', () => this.#arrivals.at(performance.now() + this.#options().delayMs, () => to.end()));
  }

  #taken(bytes: Buffer): void {
    const { delayMs, bytesPerSecond, inFlightBytes } = this.#options();
    this.#inFlight += bytes.length;
    if (this.#inFlight >= inFlightBytes) this.#from.pause();
    const sent = this.#wire.send(bytes.length, bytesPerSecond);
    this.#arrivals.at(sent + delayMs, () => {
      if (this.#to.writable) this.#to.write(bytes);
    });
    this.#acknowledgements.at(sent + 2 * delayMs, () => {
      this.#inFlight -= bytes.length;
      if (this.#inFlight < this.#options().inFlightBytes) this.#from.resume();
    });
  }
}

function serve(first: Instruction): void {
  let { options } = first;
  const there = new Wire();
  const back = new Wire();
  let connections = 0;
  const server = createServer({ highWaterMark: READ_BYTES, noDelay: true, allowHalfOpen: true }, (near) => {
    connections++;
    const address: TcpNetConnectOpts = { port: first.to, host: '127.0.0.1', noDelay: true, allowHalfOpen: true };
    const far = connect(address);
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      one.on('error', () => other.destroy());
      one.on('close', () => setTimeout(() => other.destroy(), 3 * options.delayMs));
    }
    new Flow(near, far, there, () => options);
    new Flow(far, near, back, () => options);
  });
  const report = (): void => {
    const address = server.address();
    const port = typeof address === 'object' ? (address?.port ?? 0) : 0;
    process.send?.({ port, bytesThere: there.bytes, bytesBack: back.bytes, connections } satisfies LinkReport);
  };
  server.listen(0, '127.0.0.1', report);
  process.on('message', (instruction: Instruction) => {
    options = instruction.options;
    report();
  });
}

process.once('message', (instruction: Instruction) => serve(instruction));
process.on('disconnect', () => process.exit());
