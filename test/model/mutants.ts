/** Rules, each broken in one place, with a budget in which it must be noticed. */
import type { Mutant } from './hooks.ts';
import type { Budget } from './world.ts';

export const MUTANTS: readonly (Mutant & { readonly budget: Partial<Budget> })[] = [
  {
    breaks: 'a primary that hears of a higher epoch steps down',
    file: 'model/role.ts',
    from: "return peer.epoch > own.epoch ? 'lost' : 'wait';",
    to: "return 'wait';",
    budget: { failovers: 1, cuts: 1 },
  },
  {
    breaks: 'the epoch of a failover that is under way is not adopted',
    file: 'model/role.ts',
    from: "  if (isTakingOver(peer)) return 'wait';\n  return",
    to: '  return',
    budget: { failovers: 1 },
  },
  {
    breaks: 'after a restart of its host a VM starts only when the other side was asked',
    file: 'model/role.ts',
    from: "if (!runsHere(own)) return 'not-ours';",
    to: "return 'start';",
    budget: { failovers: 1, powerLosses: 1 },
  },
  {
    breaks: 'a failover asks whether the VM runs at the old primary',
    file: 'failover/unplanned.ts',
    from: "running = status.role === 'primary' && status.vmRunning;",
    to: 'running = false;',
    budget: { failovers: 1 },
  },
  {
    breaks: 'who is about to start the VM shows it before it asks',
    file: 'failover/starting.ts',
    from: 'return (marks.get(store)?.get(id) ?? 0) > 0;',
    to: 'return false;',
    budget: { failovers: 1, powerLosses: 1, interruptions: 1 },
  },
  {
    breaks: 'that a failover is under way is said before the epoch is raised',
    file: 'failover/fence.ts',
    from: "  move(services, id, 'failover-begun', { epoch });\n  await replica.raiseEpoch(epoch);",
    to: "  await replica.raiseEpoch(epoch);\n  move(services, id, 'failover-begun', { epoch });",
    budget: { failovers: 1, crashes: 1 },
  },
  {
    breaks: 'a planned failover that is taken back makes the request worthless that may be on its way',
    file: 'failover/planned.ts',
    from: 'await endpoint.prepare({',
    to: 'if (endpoint === undefined) await services.peer(record.peer).prepare({',
    budget: { planned: 1, messages: 1 },
  },
  {
    breaks: 'the VM is off before the role is handed over',
    file: 'failover/planned.ts',
    from: "name: 'lock the VM',\n      run: async (services, plan) => {",
    to: "name: 'lock the VM',\n      run: async (services, plan) => {\n        if (plan.id !== '') return void move(services, plan.relationship, 'prepared');",
    budget: { planned: 1, errors: 1 },
  },
  {
    breaks: 'a failover that is cancelled keeps the epoch that it raised',
    file: 'failover/cancel.ts',
    from: "'failover-cancelled', { failover: null });",
    to: "'failover-cancelled', { failover: null, epoch: recordOf(services, plan.relationship).epoch - 1 });",
    budget: { failovers: 2 },
  },
  {
    breaks: 'a log counts as acknowledged when the replica has it',
    file: 'primary/reconcile.ts',
    from: 'makes !== null && makes !== undefined && samePosition(status.received, makes)',
    to: 'makes !== null && makes !== undefined',
    budget: { writes: 1, messages: 1, crashes: 1 },
  },
];
