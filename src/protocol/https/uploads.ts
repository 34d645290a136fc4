import { until } from '../../lib/clock.ts';
import { Failure } from '../../model/failure.ts';
import type { UploadOf } from './threads.ts';

/** A strand may arrive so long before the request that begins its upload, ms: they come by different connections. */
const EARLY_MS = 2000;
const ASK_MS = 20;

/** An upload by several strands, for those that decide. */
export interface Upload {
  readonly strands: UploadOf;
  /** Why it was refused or broke, once that is so. */
  failure: Failure | undefined;
}

/** The uploads by several strands that are under way. Each is its peer's own: whoever else guesses its name finds nothing. */
export class Uploads {
  readonly #uploads = new Map<string, Upload>();

  /** Failure `already-exists` when there is one of that name. */
  begin(peer: string, name: string, strands: UploadOf): Upload {
    const key = keyOf(peer, name);
    if (this.#uploads.has(key)) throw new Failure('already-exists', `There is an upload ${name} already`);
    const upload: Upload = { strands, failure: undefined };
    this.#uploads.set(key, upload);
    return upload;
  }

  /** The upload of that name, which may still be on its way. Failure `interrupted` when it doesn't come. */
  async find(peer: string, name: string, signal: AbortSignal): Promise<Upload> {
    const key = keyOf(peer, name);
    await until(() => this.#uploads.has(key), {
      timeoutMs: EARLY_MS,
      everyMs: ASK_MS,
      signal,
      onTimeout: () => new Failure('interrupted', `There is no upload ${name} (any more)`),
    });
    return this.#uploads.get(key)!;
  }

  end(upload: Upload, failure?: Failure): void {
    upload.failure = failure;
    for (const [key, one] of this.#uploads) if (one === upload) this.#uploads.delete(key);
  }
}

function keyOf(peer: string, name: string): string {
  return `${peer} ${name}`;
}
