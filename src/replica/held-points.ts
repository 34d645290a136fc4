/** Recovery points that stay, whatever the policy says and over restarts, because somebody works with them. */
import type { Gate } from '../lib/gate.ts';
import { Failure } from '../model/failure.ts';
import type { RecoveryPoint } from '../model/relationship.ts';
import type { RecordFile } from './record.ts';

export class HeldPoints {
  readonly #record: RecordFile;
  readonly #publishing: Gate;
  readonly #standstill: Gate;
  readonly #points: () => readonly RecoveryPoint[];
  readonly #retire: () => Promise<void>;

  /** @param retire gives up what no rule keeps, if that may be done now; with nothing else going on. */
  constructor(
    record: RecordFile,
    publishing: Gate,
    standstill: Gate,
    points: () => readonly RecoveryPoint[],
    retire: () => Promise<void>,
  ) {
    this.#record = record;
    this.#publishing = publishing;
    this.#standstill = standstill;
    this.#points = points;
    this.#retire = retire;
  }

  /** Durable when it resolves. Failure `not-found` for a point that isn't kept any more. */
  async add(sequence: number): Promise<void> {
    await this.#publishing.run(`holding ${sequence}`, async () => {
      if (!this.#points().some((point) => point.sequence === sequence)) {
        throw new Failure('not-found', `the replica keeps no recovery point ${sequence}`);
      }
      await this.#record.update(({ held }) => ({ held: [...new Set([...held, sequence])] }));
    });
  }

  /** The policy decides about that point again. One that isn't held is no error. */
  async release(sequence: number): Promise<void> {
    await this.#standstill.run(`releasing ${sequence}`, async () => {
      await this.#record.update(({ held }) => ({ held: held.filter((one) => one !== sequence) }));
      await this.#retire();
    });
  }
}
