/** The outbox of a host in the explored world: one log, of the blocks that changed. */
import type { LogHeader } from '../../src/deltalog/header.ts';
import type { Life } from './run.ts';
import { stateName, type Blocks, type WorldLog } from './world.ts';

/** What `stand-in/capture.ts` writes into. */
export class ModelWriter {
  readonly blocks: [number, number][] = [];
  /** What the whole disk held at the log's instant. */
  content: Blocks | null = null;
  changedBytes = 0;
  written = 0;

  get frames(): number {
    return this.blocks.length;
  }

  add(block: number, value: number): void {
    this.blocks.push([block, value]);
  }
}

export class ModelOutbox {
  readonly #life: Life;

  constructor(life: Life) {
    this.#life = life;
  }

  async begin(header: LogHeader) {
    this.#life.live();
    this.#life.here.outbox = null;
    const writer = new ModelWriter();
    const whole = Promise.withResolvers<WorldLog>();
    whole.promise.catch(() => undefined); // nobody may be sending yet
    const { logId, sequence, epoch, follows, point } = header;
    return {
      writer,
      logId,
      sequence,
      from: () => bytes(whole.promise),
      abandon: async (reason: Error) => whole.reject(reason),
      finish: async () => {
        this.#life.live();
        const state = stateName(this.#life.run.name(), point === null ? null : writer.content);
        const makes = { epoch, sequence, state };
        const log: WorldLog = { sequence, logId, epoch, follows, makes, point, blocks: writer.blocks };
        this.#life.here.outbox = log;
        whole.resolve(log);
        return { makes, dataBytes: 0, zeroBytes: 0 };
      },
    };
  }

  async find(logId: string) {
    this.#life.live();
    const log = this.#life.here.outbox;
    if (log?.logId !== logId) return undefined;
    const { sequence, makes, point } = log;
    return {
      log: { logId, sequence, from: () => bytes(Promise.resolve(log)) },
      footer: { makes },
      header: { point },
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
