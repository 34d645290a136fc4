/** Off, on, and again: of the guest and of the processes that carry it. */
import { readFileSync } from 'node:fs';
import { until } from '../../../src/lib/clock.ts';
import { VM } from '../../system/two-hosts.ts';
import type { Operation } from './operations.ts';
import type { Week } from './world.ts';

/** libvirt waits 30 s for a job of a guest that ends. */
const OFF_MS = 120_000;
const BOOT_MS = 120_000;

/** The guest is shut down, as its own administrator does it. */
export async function shutDown({ hosts }: Week): Promise<void> {
  await hosts.guest.shutdown(OFF_MS);
}

/** Waits until the guest, which runs on, has booted anew. */
async function rebooted({ hosts: { a, guest } }: Week, cause: () => Promise<void>): Promise<void> {
  const boots = () => readFileSync(a.host.path(guest.console), 'utf8').split('GUEST up').length;
  const before = boots();
  await cause();
  await until(() => boots() > before, { timeoutMs: BOOT_MS, onTimeout: () => new Error('the guest does not reboot') });
}

/** Commands of virsh, one after the other. */
function told(...commands: readonly string[]): Operation {
  return {
    name: commands.join(', '),
    async perform(week) {
      for (const command of commands) await week.virsh(command, VM);
    },
  };
}

export const POWER: readonly Operation[] = [
  {
    name: 'shutdown, start',
    async perform(week) {
      await shutDown(week);
      await week.virsh('start', VM);
    },
  },
  told('destroy', 'start'),
  told('managedsave', 'start'),
  told('suspend', 'resume'),
  {
    name: 'reset',
    async perform(week) {
      await rebooted(week, async () => await week.virsh('reset', VM));
    },
  },
  {
    name: 'reboot by the guest',
    async perform(week) {
      const { agent } = week.hosts.guest;
      const later = '(usleep 200000; reboot -f) </dev/null >/dev/null 2>&1 &';
      await rebooted(week, async () => void (await agent.exec(['/bin/sh', '-c', later])));
    },
  },
  {
    name: 'QEMU killed, start',
    compares: true,
    async perform(week) {
      const { a, guest } = week.hosts;
      await a.host.succeed(['sh', '-c', `kill -9 "$(cat /run/libvirt/qemu/${VM}.pid)"`]);
      const isOff = async () => (await guest.state()) === 'shut off';
      await until(isOff, { timeoutMs: OFF_MS, onTimeout: () => new Error('libvirtd has not noticed') });
      await week.virsh('start', VM);
    },
  },
  {
    name: 'libvirtd restarted',
    async perform({ hosts: { a } }) {
      await a.host.stopLibvirtd();
      await a.host.startLibvirtd();
    },
  },
  {
    name: 'libvirtd killed',
    async perform({ hosts: { a } }) {
      await a.host.stopLibvirtd('SIGKILL');
      await a.host.startLibvirtd();
    },
  },
  {
    name: "the primary's understudyd restarted",
    async perform({ hosts: { a } }) {
      await a.stop();
      await a.start();
    },
  },
  {
    name: "the primary's understudyd killed",
    async perform({ hosts: { a } }) {
      await a.kill();
      await a.start();
    },
  },
  {
    name: "the Replica server's understudyd restarted",
    async perform({ hosts: { b } }) {
      await b.stop();
      await b.start();
    },
  },
];
