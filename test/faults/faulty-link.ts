/** The way from one host to the other, which a test may break at any call, before it arrives, midway, or on the way back. */
import { sleep } from '../../src/lib/clock.ts';
import { Failure, type FailureCode } from '../../src/model/failure.ts';
import type { ReplicaEndpoint } from '../../src/protocol/endpoint.ts';

export interface Fault {
  readonly call: keyof ReplicaEndpoint;
  /** `before`: the request is lost; `after`: the answer is; a number: the body breaks after so many bytes. */
  readonly when: 'before' | 'after' | number;
  readonly code: FailureCode;
}

/** What a real one takes to say that nobody answers, ms. */
const SILENCE_MS = 60_000;

export class FaultyLink {
  /** While it is cut, every call fails with `unreachable`. */
  cut = false;
  /** A call that is begun while it is silent is never answered: it ends when its signal does. */
  silent = false;
  /** Asked at every call; the default takes what `once` was given. */
  chooser: (call: keyof ReplicaEndpoint) => Fault | undefined;
  /** Faults that have happened. */
  readonly happened: Fault[] = [];
  /** What it carries of logs in a second; as much as there is when 0. */
  bytesPerSecond = 0;
  /** How often the replica was asked for pages. */
  questions = 0;
  /** A bit of the first bytes of the next log is flipped on its way. */
  flipsNext = false;
  /** Most logs that were on their way at the same time. */
  mostPuts = 0;
  #puts = 0;
  #once: Fault[] = [];

  constructor() {
    this.chooser = (call) => {
      const index = this.#once.findIndex((fault) => fault.call === call);
      return index < 0 ? undefined : this.#once.splice(index, 1)[0];
    };
  }

  /** Lets the next call of that name fail, once. */
  once(...faults: readonly Fault[]): void {
    this.#once.push(...faults);
  }

  over(endpoint: ReplicaEndpoint): ReplicaEndpoint {
    return {
      prepare: (request) => this.#pass('prepare', () => endpoint.prepare(request)),
      status: (id, signal) => this.#pass('status', () => endpoint.status(id), signal),
      durableOffset: (id, log, signal) => this.#pass('durableOffset', () => endpoint.durableOffset(id, log), signal),
      put: (id, log, offset, body, signal) =>
        this.#pass(
          'put',
          async (fault) => {
            this.mostPuts = Math.max(this.mostPuts, ++this.#puts);
            try {
              return await endpoint.put(id, log, offset, this.#broken(body, fault), signal);
            } finally {
              this.#puts--;
            }
          },
          signal,
        ),
      confirm: (id, position, instant, signal) =>
        this.#pass('confirm', () => endpoint.confirm(id, position, instant), signal),
      digests: (id, question, signal) => this.#pass('digests', () => endpoint.digests(id, question), signal),
      pageDigests: (id, question, signal) => {
        this.questions++;
        return this.#pass('pageDigests', () => endpoint.pageDigests!(id, question, signal), signal);
      },
      verify: (id, question, signal) => this.#pass('verify', () => endpoint.verify!(id, question, signal), signal),
      takeOver: (id, request) => this.#pass('takeOver', () => endpoint.takeOver(id, request)),
      remove: (id, options) => this.#pass('remove', () => endpoint.remove(id, options)),
    };
  }

  async #pass<T>(
    call: keyof ReplicaEndpoint,
    work: (fault: Fault | undefined) => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    if (this.silent) {
      await sleep(SILENCE_MS, signal);
      throw new Failure('timeout', `${call}: no answer`);
    }
    if (this.cut) throw new Failure('unreachable', `${call}: the link is cut`);
    const fault = this.chooser(call);
    if (fault?.when === 'before') throw this.#fail(fault);
    const answer = await work(fault);
    if (this.cut) throw new Failure('interrupted', `${call}: the link was cut`);
    if (fault?.when === 'after') throw this.#fail(fault);
    return answer;
  }

  #fail(fault: Fault): Failure {
    this.happened.push(fault);
    return new Failure(fault.code, `${fault.call} broke ${fault.when}`);
  }

  async *#broken(body: AsyncIterable<Uint8Array>, fault: Fault | undefined): AsyncGenerator<Uint8Array> {
    let left = typeof fault?.when === 'number' ? fault.when : Infinity;
    for await (const chunk of body) {
      if (this.cut) throw new Failure('interrupted', 'the link was cut');
      if (this.bytesPerSecond > 0) await sleep((chunk.length * 1000) / this.bytesPerSecond);
      if (this.flipsNext) {
        this.flipsNext = false;
        const damaged = Buffer.from(chunk);
        damaged[damaged.length >> 1]! ^= 4;
        yield damaged;
        continue;
      }
      if (left <= chunk.length) {
        if (left > 0) yield chunk.subarray(0, left);
        throw this.#fail(fault!);
      }
      left -= chunk.length;
      yield chunk;
    }
  }
}
