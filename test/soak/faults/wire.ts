/** The way to a host: a TCP proxy before its port, which may be cut, stall, be slow, and spoil what goes over it. */
import { once } from 'node:events';
import { connect, createServer, type Server, type Socket } from 'node:net';
import { Failure } from '../../../src/model/failure.ts';
import type { Random } from './guest.ts';

export const WEATHERS = ['cut', 'stalled', 'slow', 'corrupt', 'duplicated', 'reordered'] as const;
export type Weather = (typeof WEATHERS)[number] | 'fair';

const SLOW_BYTES_A_SECOND = 200_000;
/** One piece of so many is spoilt. */
const RARE = 6;

export class Wire {
  readonly port: number;
  readonly #server: Server;
  readonly #to: number;
  readonly #random: Random;
  readonly #sockets = new Set<Socket>();
  #weather: Weather = 'fair';

  private constructor(server: Server, ports: { own: number; to: number }, random: Random) {
    this.#server = server;
    this.port = ports.own;
    this.#to = ports.to;
    this.#random = random;
    server.on('connection', (near) => this.#connected(near));
  }

  /** @param to port on this machine that it leads to. */
  static async open(to: number, random: Random): Promise<Wire> {
    const server = createServer({ noDelay: true }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const address = server.address();
    if (address === null || typeof address === 'string') throw new Failure('internal', 'no port was given');
    return new Wire(server, { own: address.port, to }, random);
  }

  set weather(weather: Weather) {
    this.#weather = weather;
    if (weather === 'cut') for (const socket of this.#sockets) socket.destroy();
    for (const socket of this.#sockets) {
      if (weather === 'stalled') socket.pause();
      else socket.resume();
    }
  }

  async close(): Promise<void> {
    for (const socket of this.#sockets) socket.destroy();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #connected(near: Socket): void {
    if (this.#weather === 'cut') {
      near.destroy();
      return;
    }
    const far = connect({ port: this.#to, host: '127.0.0.1', noDelay: true });
    for (const [one, other] of [
      [near, far],
      [far, near],
    ] as const) {
      this.#sockets.add(one);
      one.on('error', () => other.destroy());
      one.on('close', () => {
        this.#sockets.delete(one);
        other.destroy();
      });
      one.on('end', () => other.end());
      this.#carry(one, other);
      if (this.#weather === 'stalled') one.pause();
    }
  }

  /** Passes on what comes from one side, as the weather is. */
  #carry(from: Socket, to: Socket): void {
    let held: Buffer | undefined;
    from.on('data', (piece: Buffer) => {
      const pieces = held === undefined ? [piece] : [piece, held];
      held = undefined;
      const spoilt = this.#random(RARE) === 0;
      if (spoilt && this.#weather === 'corrupt') piece[this.#random(piece.length)]! ^= 1 << this.#random(8);
      if (spoilt && this.#weather === 'duplicated') pieces.push(piece);
      if (spoilt && this.#weather === 'reordered' && pieces.length === 1) {
        held = pieces.pop();
        return;
      }
      for (const one of pieces) if (to.writable) to.write(one);
      const pause = this.#weather === 'slow' ? (1000 * piece.length) / SLOW_BYTES_A_SECOND : 0;
      if (pause === 0 && to.writableLength < 2 ** 20) return;
      from.pause();
      setTimeout(() => {
        if (this.#weather !== 'stalled') from.resume();
      }, pause);
    });
  }
}
