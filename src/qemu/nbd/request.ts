import { Failure } from '../../model/failure.ts';
import type { ExtentRun } from './extents.ts';
import { ERRNO, errnoName } from './wire.ts';

export interface RequestPlan {
  /** The command in words, for errors: `read`. */
  readonly verb: string;
  /** Server and export in words. */
  readonly who: string;
  readonly offset: number;
  readonly length: number;
  /** Where a read's bytes go: exactly `length` of them. */
  readonly target?: Uint8Array;
}

/**
 * A request on its way. It gathers what the replies bring and holds them to what was asked: a read is done when each
 * of its bytes came exactly once, whatever the server's chunks and their order.
 */
export class Request {
  readonly done: Promise<void>;
  /** For block status: runs by context id, as they came, relative to the request's offset. */
  readonly runs = new Map<number, ExtentRun[]>();
  readonly #plan: RequestPlan;
  readonly #settle = Promise.withResolvers<void>();
  readonly #covered: { from: number; to: number }[] = [];
  #error: Failure | undefined;

  constructor(plan: RequestPlan) {
    this.#plan = plan;
    this.done = this.#settle.promise;
  }

  get isRead(): boolean {
    return this.#plan.target !== undefined;
  }

  get length(): number {
    return this.#plan.length;
  }

  /** The slice of the target for bytes [offset, offset + length) of the disk, which must lie in what was asked. */
  slice(offset: bigint, length: number): Uint8Array {
    const target = this.#plan.target;
    const from = Number(offset) - this.#plan.offset;
    if (target === undefined || from < 0 || length < 1 || from + length > target.length) {
      throw this.broken(`server sent ${length} bytes at ${offset}, which weren't asked for`);
    }
    this.#covered.push({ from, to: from + length });
    return target.subarray(from, from + length);
  }

  /** The whole target, for a reply without chunks. */
  all(): Uint8Array {
    return this.slice(BigInt(this.#plan.offset), this.#plan.length);
  }

  /** Notes an error of the server; the first one counts. The request still ends with its last chunk. */
  refused(errno: number, text: string): void {
    const { verb, who, offset, length } = this.#plan;
    const code = errno === ERRNO.ENOSPC ? 'no-space' : errno === ERRNO.ESHUTDOWN ? 'interrupted' : 'io';
    const said = text === '' ? errnoName(errno) : `${errnoName(errno)}, ${text}`;
    this.#error ??= new Failure(code, `${who}: ${verb} of ${length} bytes at ${offset}: ${said}`);
  }

  /** The last reply is here. */
  finish(): void {
    if (this.#error === undefined && this.isRead && !this.#isCovered()) {
      throw this.broken('the reply ended with bytes missing or sent twice');
    }
    if (this.#error === undefined) this.#settle.resolve();
    else this.#settle.reject(this.#error);
  }

  abandon(error: Failure): void {
    this.#settle.reject(error);
  }

  broken(what: string): Failure {
    const { verb, who, offset, length } = this.#plan;
    return new Failure('disk-engine', `${who}: ${verb} of ${length} bytes at ${offset}: ${what}`);
  }

  #isCovered(): boolean {
    let at = 0;
    for (const { from, to } of this.#covered.toSorted((a, b) => a.from - b.from)) {
      if (from !== at) return false;
      at = to;
    }
    return at === this.#plan.length;
  }
}
