/** The open views under running test failovers, one for each relationship; they live as long as this process. */
import type { Hypervisor } from '../hypervisor/hypervisor.ts';
import type { Replicas } from '../replica/replicas.ts';
import type { View } from '../replica/views.ts';

export class TestViews {
  readonly #replicas: Replicas;
  readonly #hypervisor: Hypervisor;
  readonly #views = new Map<string, View>();

  constructor(replicas: Replicas, hypervisor: Hypervisor) {
    this.#hypervisor = hypervisor;
    this.#replicas = replicas;
  }

  /** The view of a point, opened if it isn't. */
  async ensure(relationship: string, sequence: number): Promise<View> {
    const present = this.#views.get(relationship);
    if (present !== undefined) return present;
    const view = await this.#replicas.get(relationship).openView(sequence, await this.#hypervisor.vmUser());
    this.#views.set(relationship, view);
    return view;
  }

  async close(relationship: string): Promise<void> {
    const view = this.#views.get(relationship);
    this.#views.delete(relationship);
    await view?.close();
  }

  async closeAll(): Promise<void> {
    await Promise.all([...this.#views.keys()].map((id) => this.close(id)));
  }
}
