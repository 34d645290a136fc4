/** Other programs and hands on the VM: backups, its definition, a test of a recovery point. */
import { rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { until } from '../../../src/lib/clock.ts';
import { VM, type Replication } from '../../system/two-hosts.ts';
import type { Operation } from './operations.ts';
import { shutDown } from './power.ts';
import { Violation, type Week } from './world.ts';

const PATIENCE_MS = 120_000;

/** A backup job of another program, which lasts until we have noticed it. */
async function backup(week: Week, noticed: (view: Replication) => boolean): Promise<void> {
  const { a, scratch } = week.hosts;
  const socket = join(tmpdir(), `us-week-${process.pid}.sock`); // where QEMU's user may make one
  const xml = join(scratch, 'backup.xml');
  writeFileSync(xml, `<domainbackup mode='pull'><server transport='unix' socket='${socket}'/></domainbackup>`);
  await week.virsh('backup-begin', VM, xml);
  await a.waitFor(VM, 'waiting for the other program', noticed, PATIENCE_MS);
  await week.virsh('domjobabort', VM);
  const isOver = async () => /None/.test(await a.host.virsh('domjobinfo', VM));
  await until(isOver, { timeoutMs: PATIENCE_MS, onTimeout: () => new Error('the other backup does not end') });
  rmSync(socket, { force: true });
}

export const NEIGHBOURS: readonly Operation[] = [
  {
    name: 'backup job of another program',
    async perform(week) {
      await backup(week, ({ failure }) => failure?.code === 'job-conflict');
    },
  },
  {
    name: 'backup job of another program, within a yield',
    async perform(week) {
      const { client } = week.hosts.a;
      await client.call('replicationYield', { ref: VM, seconds: 600 });
      const refusals = week.refusals.length;
      await backup(week, ({ failure }) => failure?.code === 'yielded');
      await client.call('replicationYield', { ref: VM, seconds: 0 });
      if (week.refusals.length > refusals)
        throw new Violation(`refused in spite of the yield: ${week.refusals.at(-1)}`);
    },
  },
  {
    name: 'undefine and define while it runs',
    async perform(week) {
      const xml = await week.hosts.a.host.virsh('dumpxml', VM, '--inactive', '--security-info');
      await week.virsh('undefine', VM, '--keep-nvram', '--checkpoints-metadata');
      await week.hosts.a.host.define(xml);
    },
  },
  {
    name: 'undefine and define while it is off',
    async perform(week) {
      const xml = await week.hosts.a.host.virsh('dumpxml', VM, '--inactive', '--security-info');
      await shutDown(week);
      await week.virsh('undefine', VM, '--keep-nvram');
      await week.hosts.a.host.define(xml);
      await week.virsh('start', VM);
    },
  },
  {
    name: 'test failover',
    async perform({ hosts: { b } }) {
      await b.act('testFailoverStart', { ref: VM });
      await b.act('testFailoverStop', { ref: VM });
    },
  },
];
