/**
 * The flat disks as a view reads them: connections of its own to the replica's storage daemon. When that dies, reads wait
 * until it is back.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { Failure } from '../model/failure.ts';
import { NbdClient, type NbdAddress } from '../qemu/nbd/client.ts';
import { BASE_ALLOCATION } from '../qemu/nbd/wire.ts';

/** For so long a view waits for a storage daemon that is being started again, ms. */
const PATIENCE_MS = 30_000;
const PAUSE_MS = 200;
/** What a dying daemon makes of requests. */
const GONE: ReadonlySet<string> = new Set(['interrupted', 'unreachable', 'disk-engine', 'timeout']);

/** The flat disks, as far as a view needs them. */
export type PatientDisks = Pick<ViewDisks, 'patiently'>;

export class ViewDisks {
  readonly #addresses: () => Promise<readonly NbdAddress[]>;
  #clients: Promise<NbdClient[]> | undefined;
  #closed = false;

  /** @param addresses gives the exports of the disks, by index; the daemon is started if it doesn't run. */
  constructor(addresses: () => Promise<readonly NbdAddress[]>) {
    this.#addresses = addresses;
  }

  /** Reads the disks: `work` is done again if the daemon ends meanwhile, for up to 30 s. */
  async patiently<T>(work: (clients: readonly NbdClient[]) => Promise<T>): Promise<T> {
    const deadline = performance.now() + PATIENCE_MS;
    for (;;) {
      try {
        return await work(await this.#connected());
      } catch (error) {
        const gone = error instanceof Failure && GONE.has(error.code);
        if (!gone || this.#closed || performance.now() > deadline) throw error;
        await delay(PAUSE_MS);
      }
    }
  }

  /** Ends the connections; what is under way fails. */
  async close(): Promise<void> {
    this.#closed = true;
    const clients = await this.#clients?.catch(() => []);
    for (const client of clients ?? []) client.destroy();
  }

  async #connected(): Promise<NbdClient[]> {
    if (this.#closed) throw new Failure('interrupted', 'the view was ended');
    if (this.#clients === undefined) {
      const connecting = this.#connect();
      const forget = (): void => {
        if (this.#clients === connecting) this.#clients = undefined;
      };
      this.#clients = connecting;
      connecting.then((clients) => {
        for (const client of clients) void client.closed.then(forget);
      }, forget);
    }
    return await this.#clients;
  }

  async #connect(): Promise<NbdClient[]> {
    const clients: NbdClient[] = [];
    try {
      for (const address of await this.#addresses()) {
        clients.push(await NbdClient.connect({ ...address, metaContexts: [BASE_ALLOCATION] }));
      }
      return clients;
    } catch (error) {
      for (const client of clients) client.destroy();
      throw error;
    }
  }
}
