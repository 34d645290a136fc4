/**
 * Keeps backup jobs out of the way of a guest agent that is about to come. When one opens its channel while a job is open on any VM,
 * libvirt (9.0 to 11.3 at least) waits for the job for 30 s with the thread that would end it, drops the news, and knows nothing of that
 * agent until libvirtd is started again.
 */

/** What a live definition says of the channel: there is none, nobody has it open in the guest, or somebody has. */
export type AgentChannel = 'none' | 'silent' | 'connected';

/**
 * - `coming`: it may come any moment: open no job now.
 * - `lost`: it was there, in this life of the VM or an earlier one, and has stayed away.
 */
export type AgentOutlook = 'none' | 'coming' | 'connected' | 'lost';

/** So long after a start, or since it went away, an agent is waited for, ms. A guest that takes longer may have none. */
export const AGENT_PATIENCE_MS = 60_000;

export interface AgentLook {
  /** Of the VM's QEMU: another one at each start. */
  readonly life: number;
  readonly channel: AgentChannel;
  /** For how long that QEMU has run, ms; 0 when nobody knows. */
  readonly ageMs: number;
  /** ms of a steady clock. */
  readonly now: number;
}

/** One VM's agent, as it is seen whenever a job is to be opened. */
export class AgentWatch {
  #life: number | undefined;
  #silentSince: number | undefined;
  #wasHere = false;
  /** In any life. */
  #exists = false;

  look({ life, channel, ageMs, now }: AgentLook): AgentOutlook {
    if (life !== this.#life) {
      this.#life = life;
      this.#silentSince = undefined;
      this.#wasHere = false;
    }
    if (channel === 'none') return 'none';
    if (channel === 'connected') {
      this.#silentSince = undefined;
      this.#wasHere = true;
      this.#exists = true;
      return 'connected';
    }
    // One that was here may be back in a minute: the guest reboots.
    this.#silentSince ??= this.#wasHere ? now : now - ageMs;
    if (now - this.#silentSince < AGENT_PATIENCE_MS) return 'coming';
    return this.#exists ? 'lost' : 'none';
  }
}
