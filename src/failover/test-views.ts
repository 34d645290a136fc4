/**
 * The views under running test failovers, one for each relationship. A view lives as long as this process; a test VM shall
 * not feel that: it reads through a relay (`qemu/relay.ts`), which waits until the next process has opened the view of the same
 * point again.
 */
import { mkdir, readdir, rename, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';
import type { Hypervisor } from '../hypervisor/hypervisor.ts';
import { Failure } from '../model/failure.ts';
import { endRelay, ensureRelay, relaySocket } from '../qemu/relay.ts';
import type { Replicas } from '../replica/replicas.ts';
import type { View } from '../replica/views.ts';
import type { TestFailoverRecord } from '../store/store.ts';

/** A guest waits so long for a daemon to come back before its disk fails, s: an upgrade takes seconds. */
const PATIENCE_SECONDS = 600;
/** Name beside a relay of the socket of the present view: the relay knows only it. */
const PRESENT_VIEW = 'view';

export class TestViews {
  readonly #replicas: Replicas;
  readonly #hypervisor: Hypervisor;
  readonly #relays: string | undefined;
  readonly #views = new Map<string, View>();

  /** @param relays directory for relays, gone after a boot; without it test VMs read the views themselves, and end with us. */
  constructor(replicas: Replicas, hypervisor: Hypervisor, relays?: string) {
    this.#hypervisor = hypervisor;
    this.#replicas = replicas;
    this.#relays = relays;
  }

  /**
   * To be called at the start of a process, before any view is opened: a new view must not be taken by a relay for the one that
   * it waits for because its socket has the same name.
   */
  async disconnect(): Promise<void> {
    if (this.#relays === undefined) return;
    await mkdir(this.#relays, { recursive: true, mode: 0o711 });
    for (const id of await readdir(this.#relays)) await rm(join(this.#relays, id, PRESENT_VIEW), { force: true });
  }

  /** Gives the socket on which a point is to be read, opened if it isn't. @param damaged it is taken as it is. */
  async ensure(relationship: string, sequence: number, damaged = false): Promise<string> {
    let view = this.#views.get(relationship);
    const user = await this.#hypervisor.vmUser();
    if (view === undefined) {
      view = await this.#replicas.get(relationship).openView(sequence, user, damaged);
      this.#views.set(relationship, view);
    }
    if (this.#relays === undefined) return view.socketPath;
    const directory = join(this.#relays, relationship);
    const source = join(directory, PRESENT_VIEW);
    await mkdir(directory, { recursive: true, mode: 0o711 });
    await point(source, view.socketPath);
    await ensureRelay({
      directory,
      source,
      exportNames: this.#replicas
        .get(relationship)
        .disksAt(sequence)
        .map(({ target }) => target),
      patienceSeconds: PATIENCE_SECONDS,
      ...(user === undefined ? {} : { owner: user }),
    });
    return relaySocket(directory);
  }

  /**
   * After a restart: opens the view of a test failover again, if its VM is still there to read it. Throws why the test can't
   * go on: `not-found` (VM or point are gone, the point was retired meanwhile), `vm-not-running`, and as `ensure`.
   */
  async resume(relationship: string, test: TestFailoverRecord): Promise<void> {
    const { state } = await this.#hypervisor.getVm(test.vmId);
    if (state === 'off') throw new Failure('vm-not-running', `${test.vmName} is off`);
    if (this.#relays === undefined) throw new Failure('wrong-state', `${test.vmName} has lost its disks`);
    await this.ensure(relationship, test.sequence, true); // it was running from it
  }

  /** Ends the view of a relationship and its relay. */
  async close(relationship: string): Promise<void> {
    const view = this.#views.get(relationship);
    this.#views.delete(relationship);
    if (this.#relays !== undefined) await endRelay(join(this.#relays, relationship));
    await view?.close();
  }

  /** Ends the views; relays stay, and wait for the next process. */
  async closeAll(): Promise<void> {
    const views = [...this.#views.values()];
    this.#views.clear();
    await Promise.all(views.map((view) => view.close()));
  }
}

/** Lets a name lead to another socket, from one moment to the next. */
async function point(name: string, to: string): Promise<void> {
  const next = `${name}.next`;
  await rm(next, { force: true });
  await symlink(to, next);
  await rename(next, name);
}
