/** The outbox of a host in the explored world: one log, of the blocks that changed. */
import type { LogHeader } from '../../src/deltalog/header.ts';
import type { Life } from './run.ts';
import { stateName, type Blocks, type WorldLog } from './world.ts';

/** A log being written, by `stand-in/capture.ts`. */
export class ModelLog {
  readonly logId: string;
  readonly sequence: number;
  readonly written = 0;
  readonly dataBytes = 0;
  readonly #blocks: [number, number][] = [];
  readonly #whole = Promise.withResolvers<WorldLog>();
  readonly #header: LogHeader;
  readonly #life: Life;
  /** What the whole disk held at the log's instant. */
  content: Blocks | null = null;

  constructor(header: LogHeader, life: Life) {
    this.logId = header.logId;
    this.sequence = header.sequence;
    this.#header = header;
    this.#life = life;
    this.#whole.promise.catch(() => undefined); // nobody may be sending yet
  }

  get frames(): number {
    return this.#blocks.length;
  }

  add(block: number, value: number): void {
    this.#blocks.push([block, value]);
  }

  from(): AsyncGenerator<Buffer> {
    return bytes(this.#whole.promise);
  }

  async abandon(reason: Error): Promise<void> {
    this.#whole.reject(reason);
  }

  async finish() {
    const { logId, sequence, epoch, follows, point } = this.#header;
    this.#life.live();
    const state = stateName(this.#life.run.name(), point === null ? null : this.content);
    const makes = { epoch, sequence, state };
    const log: WorldLog = { sequence, logId, epoch, follows, makes, point, blocks: this.#blocks };
    this.#life.here.outbox = log;
    this.#whole.resolve(log);
    return { makes, dataBytes: 0, zeroBytes: 0, referenceBytes: 0 };
  }
}

export class ModelOutbox {
  readonly #life: Life;

  constructor(life: Life) {
    this.#life = life;
  }

  async begin(header: LogHeader): Promise<ModelLog> {
    this.#life.live();
    this.#life.here.outbox = null;
    return new ModelLog(header, this.#life);
  }

  async find(logId: string) {
    this.#life.live();
    const log = this.#life.here.outbox;
    if (log?.logId !== logId) return undefined;
    const { sequence, makes, point, epoch } = log;
    return {
      log: { logId, sequence, from: () => bytes(Promise.resolve(log)) },
      footer: { makes },
      header: { point, epoch },
    };
  }

  async clear(): Promise<void> {
    this.#life.live();
    this.#life.here.outbox = null;
  }
}

async function* bytes(log: Promise<WorldLog>): AsyncGenerator<Buffer> {
  yield Buffer.from(JSON.stringify(await log));
}
