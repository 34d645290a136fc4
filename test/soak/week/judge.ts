/** Whether an operation has left everything well: by itself, in time, without a copy that the data didn't need. */
import { assertByteEqual } from '../../system/equality.ts';
import { assertRecordsGood } from '../../system/records-inside.ts';
import { VM, look, protectedNow, type Replication } from '../../system/two-hosts.ts';
import type { Operation } from './operations.ts';
import type { Week } from './world.ts';

/** A guest that boots without a processor of its own, a comparison. */
const PATIENCE_MS = 180_000;
/** Events that nothing a person does here may bring about. */
const NEVER = new Set(['resync-required', 'verify-different', 'replica-set-back', 'logs-refused', 'stepped-down']);

/** How far things are; compared with how far they are later. */
export interface Standing {
  /** Id of the last event. */
  readonly event: number;
  readonly sentBytes: number;
}

export async function standing({ hosts: { a } }: Week): Promise<Standing> {
  const [last] = await a.client.call('eventList', { ref: VM, limit: 1 });
  return { event: last?.id ?? 0, sentBytes: (await look(a)).statistics.sentBytes };
}

/** Waits until the guest is up and protected as before. Throws when that doesn't come. Gives what was wrong on the way, in words. */
export async function wellAfter(week: Week, { compares }: Operation, before: Standing): Promise<string[]> {
  const { a, b, guest } = week.hosts;
  await guest.agent.wait(PATIENCE_MS);
  await a.waitFor(VM, 'replicating', ({ state, copy }) => state === 'Replicating' && copy === null, PATIENCE_MS);
  const { disks } = await protectedNow(a, PATIENCE_MS);
  // A machine with more to do than it can is too slow for some cycles.
  const isWell = ({ healthReasons }: Replication) => healthReasons.every((said) => /cycles were missed/.test(said));
  await a.waitFor(VM, 'healthy', isWell, PATIENCE_MS);
  const wrong: string[] = [];
  for (const { id, kind, message } of await a.client.call('eventList', { ref: VM, limit: 1000 })) {
    const isWrong = NEVER.has(kind) || (compares !== true && kind === 'comparing');
    if (id > before.event && isWrong) wrong.push(`${kind}: ${message}`);
  }
  const sent = (await standing(week)).sentBytes - before.sentBytes;
  const whole = disks.reduce((sum, { size }) => sum + size, 0);
  if (sent > whole / 2) wrong.push(`${sent} of ${whole} bytes sent: a copy`);
  if ((await b.host.virsh('domstate', VM)) !== 'shut off') wrong.push('the Replica VM runs');
  return wrong;
}

/** Every byte, every size, and what the guest itself finds in its records. */
export async function equal({ hosts: { a, b, guest, scratch } }: Week): Promise<void> {
  await assertByteEqual(a, b, scratch);
  const shapes = await Promise.all([a, b].map(async (host) => (await look(host)).disks));
  const [ours, theirs] = shapes.map((disks) => disks.map(({ target, size }) => `${target} ${size}`).join());
  if (ours !== theirs) throw new Error(`the primary's disks are ${ours}, the replica's ${theirs}`);
  await assertRecordsGood(guest);
}
