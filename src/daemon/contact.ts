/**
 * Contact with the peers of the VMs that this host is the primary of, whatever their replication is doing. Without it a primary
 * whose peer has failed over learns of it only when replication next gets through: at the end of its interval, never while it
 * is suspended, and after a cut when TCP tries the old connection again, which takes about as long as the cut did. All that
 * time two copies would run.
 */
import { sleep } from '../lib/clock.ts';
import type { Log } from '../lib/log.ts';
import { asFailure, Failure } from '../model/failure.ts';
import { judgePeer } from '../model/role.ts';
import type { ReplicaEndpoint, ReplicaStatus } from '../protocol/endpoint.ts';
import type { RelationshipRecord, Store } from '../store/store.ts';
import { Rounds } from './rounds.ts';

export interface ContactOptions {
  readonly store: Pick<Store, 'relationships' | 'relationship'>;
  readonly peer: (name: string) => Pick<ReplicaEndpoint, 'status'>;
  /** Whether an action is about to change who holds the role: then its own steps ask. */
  readonly inAction: (id: string) => boolean;
  readonly onRoleLost: (id: string) => void;
  /** The replica, which had refused a log for want of room, has room again. */
  readonly onRoom: (id: string) => void;
  /** What the replica says that its host lacks to run the VM: told each time. */
  readonly onLacking?: (id: string, lacking: readonly string[]) => void;
  readonly log: Log;
  /** Pause between two rounds of questions, ms; 4 s unless told. Together with `patienceMs` well below 10 s. */
  readonly everyMs?: number;
  /** For so long an answer is waited for, ms; 3 s unless told. A connection may be dead without knowing: the next question takes another. */
  readonly patienceMs?: number;
}

const EVERY_MS = 4000;
const PATIENCE_MS = 3000;

export class Contact {
  readonly #options: ContactOptions;
  readonly #rounds: Rounds;

  constructor(options: ContactOptions) {
    this.#options = options;
    const { store, everyMs = EVERY_MS } = options;
    this.#rounds = new Rounds(everyMs, (signal) =>
      Promise.all(store.relationships().map((record) => this.#look(record, signal))),
    );
  }

  begin(): void {
    this.#rounds.begin();
  }

  async close(): Promise<void> {
    await this.#rounds.close();
  }

  async #look({ id }: RelationshipRecord, signal: AbortSignal): Promise<void> {
    const { store, onRoleLost, onRoom, onLacking } = this.#options;
    const mine = () => {
      const record = store.relationship(id);
      return record?.role === 'primary' && !this.#options.inAction(id) ? record : undefined;
    };
    const before = mine();
    if (before === undefined) return;
    if (before.state === 'SteppedDown') return onRoleLost(id); // by a plan: its return is to be waited for
    const status = await this.#ask(before, signal);
    const record = mine(); // much may have happened meanwhile
    if (record === undefined || status === undefined) return;
    if (status.role === 'replica') onLacking?.(id, status.lacking ?? []);
    if (judgePeer(record, status) === 'lost') onRoleLost(id);
    else if (record.failure?.code === 'no-space' && status.missingBytes === 0) onRoom(id);
  }

  /** Undefined when the peer can't be asked now. */
  async #ask(record: RelationshipRecord, signal: AbortSignal): Promise<ReplicaStatus | undefined> {
    const { peer, log, patienceMs = PATIENCE_MS } = this.#options;
    const answered = new AbortController();
    const late = sleep(patienceMs, AbortSignal.any([signal, answered.signal])).then(() => {
      throw new Failure('timeout', `${record.peer} did not answer within ${patienceMs} ms`);
    });
    try {
      return await Promise.race([peer(record.peer).status(record.id), late]);
    } catch (error) {
      log.debug({ relationship: record.id, err: asFailure(error) }, 'no contact with the peer');
      return undefined;
    } finally {
      answered.abort();
      late.catch(() => undefined);
    }
  }
}
