/** A copy that nobody notices, and the VM that can't be started. */
import { duration } from '../../src/cli/words.ts';
import { LabGuest } from '../../lab/guest/guest.ts';
import { Failure } from '../../src/model/failure.ts';
import { problemsWhileWriting } from '../checks.ts';
import { VM, inherited, type Scene } from '../scene.ts';
import { tellCycles } from './cycles.ts';

export async function testFailover(scene: Scene): Promise<void> {
  const { a, b, onA, screen, report, cycles, witnessA } = scene;
  const firstCycle = cycles.cycles.length;
  const { result, decidedAt } = await scene.act(b, 'testFailoverStart', { ref: VM });
  const quiet = tellCycles(scene);
  const copy = new LabGuest(b.host, result.vmName!);
  screen.underWay('the copy boots, cycles go on …');
  await copy.agent.wait();
  const upAfterMs = Date.now() - decidedAt;
  screen.step(`"${copy.name}" is up at B, from point ${result.point}`, upAfterMs);

  const inside = await copy.checkInside();
  // what the copy has written itself is under numbers that the guest gave to other records
  const kept = inherited(await scene.records(copy), scene.now());
  const due = witnessA.lastCompleteBefore(result.instant!);
  const wrong = problemsWhileWriting(inside);
  scene.check(wrong.length === 0, `check-records inside the copy: ${wrong.join('; ') || 'all in order on both disks'}`);
  scene.check(
    kept >= due && due > 0,
    `records 1 to ${kept} are the guest's own; ${due} were due at the point's instant`,
  );
  const links = await b.host.virsh('domiflist', copy.name);
  const adapter = /([0-9a-f]{2}:){5}[0-9a-f]{2}/.exec(links)?.[0];
  const link = adapter === undefined ? 'no adapter' : await b.host.virsh('domif-getlink', copy.name, adapter);
  scene.check(/down|no adapter/.test(link), `it is isolated: network link ${link.split(/\s+/).at(-1)}`);

  if (cycles.cycles.length === firstCycle) await cycles.more(1);
  quiet();
  const meanwhile = cycles.cycles.slice(firstCycle).map(({ sequence }) => sequence);
  scene.check(meanwhile.length > 0, `replication went on: log ${meanwhile.join(', ')} while the copy ran`);
  await scene.act(b, 'testFailoverStop', { ref: VM });
  const left = await b.host.virsh('list', '--all', '--name');
  const { testVms } = await b.show(VM);
  const gone = !left.includes(copy.name) && testVms.length === 0;
  scene.check(gone, `the copy is gone; B has: ${left.split('\n').filter(Boolean).join(', ')} (off)`);
  const same = (await onA.state()) === 'running' && (await a.show(VM)).state === 'Replicating';
  scene.check(same, 'the guest on A never noticed: it runs, and is replicated');
  report.testFailover = {
    point: result.point!,
    instant: result.instant!,
    upAfterMs,
    records: kept,
    cyclesMeanwhile: meanwhile.length,
  };
  screen.note(`a disaster rehearsed in ${duration(Date.now() - decidedAt)}`);
}

export async function startRefused(scene: Scene): Promise<void> {
  const { b, report } = scene;
  const said = await b.host.virsh('start', VM).catch((error: unknown) => {
    if (error instanceof Failure && error.code === 'libvirt') return error;
    throw error;
  });
  const refused = said instanceof Failure;
  report.startRefusal = refused ? said.message : null;
  scene.screen.quote(refused ? said.message.replace(/^.*? on b: /, '') : said);
  scene.check(refused && (await b.host.virsh('domstate', VM)) === 'shut off', 'libvirt refuses, and names the way');
}
