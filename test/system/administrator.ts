/** What an administrator types on a host, beside us. */
import type { LabHost } from '../../lab/hosts/host.ts';
import { until } from '../../src/lib/clock.ts';
import { VM } from './two-hosts.ts';

/** A job of ours may be open just then: it is a matter of moments. */
const TRIES_MS = 60_000;

/** A command of an administrator's: again if the VM was busy with one of our jobs. Each refusal is told of. */
export async function insist(
  command: () => Promise<unknown>,
  onRefusal: (said: string) => void = () => undefined,
): Promise<void> {
  let said = '';
  const done = async () =>
    await command().then(
      () => true,
      (error: unknown) => {
        said = String(error);
        onRefusal(said);
        return false;
      },
    );
  await until(done, { timeoutMs: TRIES_MS, everyMs: 500, onTimeout: () => new Error(said) });
}

/** The words that plug a disk in. */
export function plugging(path: string, target: string): string[] {
  const driver = ['--driver', 'qemu', '--subdriver', 'qcow2'];
  return ['attach-disk', VM, path, target, ...driver, '--live', '--config'];
}

/** The words that plug it out; the guest lets it go a little later: see `isGone`. */
export function unplugging(target: string): string[] {
  return ['detach-disk', VM, target, '--live', '--config'];
}

/** Waits until the guest has let a disk go. */
export async function isGone(host: LabHost, target: string): Promise<void> {
  await until(async () => !(await host.virsh('domblklist', VM)).includes(target), {
    timeoutMs: TRIES_MS,
    onTimeout: () => new Error(`the guest keeps ${target}`),
  });
}
