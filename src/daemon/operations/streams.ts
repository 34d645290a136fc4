/** Streams of the API: each begins with what is, and goes on with what changes. */
import { on } from 'node:events';
import { EventEmitter } from 'node:events';
import { sleep } from '../../lib/clock.ts';
import { Failure } from '../../model/failure.ts';
import type { Operations, Result } from '../../api/contract.ts';
import { hasEnded } from '../../journal/plan.ts';
import { findRelationship } from '../relationships.ts';
import type { DaemonServices } from '../services.ts';
import { actionView, isShown } from '../views.ts';

type StreamOperations = Pick<
  Operations,
  'eventList' | 'eventWatch' | 'actionList' | 'actionShow' | 'actionWatch' | 'replicationWatch'
>;

/** Least time between two looks at relationships that are followed, ms. */
const LOOK_EVERY_MS = 250;

export function streamOperations(
  services: DaemonServices,
  view: (id: string) => Promise<Result<'replicationShow'>>,
): StreamOperations {
  const { store, actions, events } = services;
  const plan = (id: string) => {
    const found = actions.journal.plan(id);
    if (found === undefined) throw new Failure('not-found', `there is no action ${id}`);
    return found;
  };
  return {
    eventList: async ({ ref, before, limit }) => {
      const relationship = ref === undefined ? {} : { relationship: findRelationship(services, ref).id };
      return store.events({ ...relationship, ...(before === undefined ? {} : { before }), limit });
    },

    eventWatch: async ({ ref, after }, { signal }) => {
      const relationship = ref === undefined ? undefined : findRelationship(services, ref).id;
      const fits = (event: { relationship: string | null }) =>
        relationship === undefined || event.relationship === relationship;
      const emitter = new EventEmitter();
      const end = events.listen((event) => emitter.emit('event', event));
      signal.addEventListener('abort', end, { once: true });
      const follow = on(emitter, 'event', { signal });
      return (async function* () {
        if (after !== undefined) {
          const missed = store.events({ limit: 1000 }).filter((event) => event.id > after && fits(event));
          yield* missed.toReversed();
        }
        for await (const [event] of follow) if (fits(event)) yield event as Result<'eventWatch'>;
      })();
    },

    actionList: async ({ ref }) => {
      const relationship = ref === undefined ? undefined : findRelationship(services, ref).id;
      const plans = actions.journal.plans().filter(isShown).toReversed();
      return plans
        .filter((candidate) => relationship === undefined || candidate.relationship === relationship)
        .map((candidate) => actionView(services, candidate));
    },

    actionShow: async ({ action }) => actionView(services, plan(action)),

    actionWatch: async ({ action }, { signal }) => {
      plan(action);
      const emitter = new EventEmitter();
      const end = actions.journal.onProgress((changed) => changed.id === action && emitter.emit('change'));
      signal.addEventListener('abort', end, { once: true });
      const follow = on(emitter, 'change', { signal });
      return (async function* () {
        try {
          // It may end while what it was is being taken: only what has been shown as ended is over.
          let shown = plan(action);
          yield actionView(services, shown);
          while (!hasEnded(shown)) {
            await follow.next();
            shown = plan(action);
            yield actionView(services, shown);
          }
        } finally {
          end();
          signal.removeEventListener('abort', end);
          await follow.return?.(undefined); // it may not have begun
        }
      })();
    },

    replicationWatch: async ({ ref }, { signal }) => {
      const only = ref === undefined ? undefined : findRelationship(services, ref).id;
      return (async function* () {
        const last = new Map<string, string>();
        while (!signal.aborted) {
          for (const { id } of store.relationships()) {
            if (only !== undefined && id !== only) continue;
            const now = await view(id);
            // The lag grows by itself: only what happened counts as a change.
            const key = JSON.stringify({ ...now, lagMs: null, peerStatus: null });
            if (last.get(id) === key) continue;
            last.set(id, key);
            yield now;
          }
          await sleep(LOOK_EVERY_MS, signal);
        }
      })();
    },
  };
}
