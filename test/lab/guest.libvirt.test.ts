import assert from 'node:assert/strict';
import { readFileSync, readdirSync, statSync } from 'node:fs';
import { after, before, test } from 'node:test';
import { LabGuest } from '../../lab/guest/guest.ts';
import { parseRecords, problems } from '../../lab/guest/records.ts';
import type { Witness } from '../../lab/guest/witness.ts';
import type { LabHost } from '../../lab/hosts/host.ts';
import { Lab } from '../../lab/hosts/lab.ts';
import { until } from '../../src/lib/clock.ts';

let lab: Lab;
let a: LabHost;
let guest: LabGuest;
let witness: Witness;

before(async () => {
  lab = await Lab.create({ name: 'guest.libvirt.test', hosts: ['a'] });
  a = lab.host('a');
  guest = await LabGuest.define(a, {
    name: 'web',
    autostart: true,
    rate: 10,
    vda: { sizeMiB: 64, fillerMiB: 4 },
    vdb: { sizeMiB: 64 },
  });
  witness = guest.witness();
  await guest.start();
});
after(async () => {
  witness?.[Symbol.dispose]();
  await lab?.dispose();
});

const last = () => witness.completed.at(-1)?.number ?? 0;
const recordsUpTo = (number: number) =>
  until(() => last() >= number, {
    timeoutMs: 60_000,
    onTimeout: () => new Error(`at record ${last()}; console: ${readFileSync(a.path(guest.console), 'utf8')}`),
  });

test('QEMU runs as libvirt-qemu', async () => {
  const user = (await a.succeed(['ps', '-C', 'qemu-system-x86_64', '-o', 'user:20='])).trim();
  assert.equal(user, 'libvirt-qemu');
  const uid = Number((await a.succeed(['id', '-u', 'libvirt-qemu'])).trim());
  assert.equal(statSync(a.path(guest.disk('vda'))).uid, uid);
});

test('records grow; guest, witness and files agree', async () => {
  const asked = Date.now();
  await recordsUpTo(last() + 5);
  const sure = witness.lastCompleteBefore(Date.now());
  const report = await guest.checkInside();
  assert.deepEqual(problems(report), []);
  assert.ok(report.vdb.last! >= sure, `${report.vdb.last} ≥ ${sure}`);
  witness.poll();
  const begun = witness.begun.at(-1)!.number;
  assert.ok(report.vda.last! <= begun, `${report.vda.last} ≤ ${begun}`);
  assert.ok(witness.firstBegunAfter(asked)! > witness.lastCompleteBefore(asked));

  const records = parseRecords(await guest.agent.readFile('/vda/records'));
  assert.ok(records.length >= sure);
  assert.ok(Math.abs(records.at(-1)!.time - Date.now()) < 60_000, 'guest time is ours, about');
});

test('the workload can be changed while it runs', async () => {
  const written = async () => {
    const { stdout } = await guest.agent.exec(['/bin/cat', '/sys/block/vdb/stat']);
    return Number(stdout.trim().split(/\s+/)[6]) * 512;
  };
  const during = async (ms: number) => {
    const [start, before] = [performance.now(), await written()];
    await until(() => performance.now() - start > ms, { timeoutMs: 60_000, onTimeout: () => new Error('no time') });
    return ((await written()) - before) / ((performance.now() - start) / 1000);
  };
  await guest.setWorkload({ rate: 5, rewriteKiB: 0 });
  await recordsUpTo(last() + 3);
  const little = await during(1500);
  await guest.setWorkload({ rate: 5, rewriteKiB: 4096 });
  await recordsUpTo(last() + 3);
  const much = await during(1500);
  assert.ok(much > little + 1024 * 1024, `${Math.round(little / 1024)} KiB/s, then ${Math.round(much / 1024)} KiB/s`);
});

test('power loss and return: the guest starts by itself and its records go on without a fault', async () => {
  const before = last();
  await a.crash();
  witness.poll();
  const sure = last();
  const offline = await guest.checkOffline();
  assert.deepEqual(problems(offline), []);
  assert.ok(offline.vdb.last! >= sure, `what was announced is on the disks: ${offline.vdb.last} ≥ ${sure}`);
  assert.deepEqual(readdirSync(a.path('/var/lib/libvirt/images')).toSorted(), ['web-vda.qcow2', 'web-vdb.qcow2']);

  await a.start();
  await guest.agent.wait();
  await recordsUpTo(before + 10);
  const report = await guest.checkInside();
  assert.deepEqual(problems(report), []);
  assert.equal(report.vda.gaps + report.vdb.gaps, 0);
  assert.ok(report.vda.last! > offline.vda.last!);
});

test('the power button: a clean end, nothing torn', async () => {
  await guest.shutdown();
  witness.poll();
  const offline = await guest.checkOffline();
  assert.deepEqual(problems(offline), []);
  assert.deepEqual([offline.vda.last, offline.vdb.last], [last(), last()]);
  assert.equal(offline.vda.tornBytes + offline.vdb.tornBytes, 0);
  assert.match(readFileSync(a.path(guest.console), 'utf8'), /GUEST down/);
});
