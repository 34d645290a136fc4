import assert from 'node:assert/strict';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type HypervisorFixture, runHypervisorConformance } from '../../../test/conformance/hypervisor.ts';
import { createImage } from '../../qemu/image.ts';
import { NbdClient } from '../../qemu/nbd/client.ts';
import { QsdHost } from './host.ts';
import { QsdHypervisor } from './qsd.ts';

const MIB = 1024 * 1024;
const SIZE = 16 * MIB;
const VM = '22222222-2222-4333-8444-555555555555';
const TARGETS = ['vda', 'vdb'];
const COUNTER = 3 * MIB;

/** A "guest" that raises one counter on both disks, on the first before the second. */
class Guest {
  readonly #host: QsdHost;
  #count = 0;

  constructor(host: QsdHost) {
    this.#host = host;
  }

  async change(): Promise<void> {
    this.#count++;
    const block = Buffer.alloc(4096);
    block.writeUInt32LE(this.#count);
    for (const exportName of TARGETS) {
      const client = await NbdClient.connect({ socketPath: this.#host.writableSocket(VM), exportName });
      await client.write(COUNTER, block);
      await client.write(4 * MIB + (this.#count % 100) * 65_536, block);
      await client.flush();
      await client.close();
    }
  }

  check(contents: ReadonlyMap<string, Buffer>): void {
    const [first, second] = TARGETS.map((target) => contents.get(target)!.readUInt32LE(COUNTER));
    assert.ok(first === second || first === second! + 1, `counters ${first} and ${second} at one instant`);
  }
}

async function makeFixture(): Promise<HypervisorFixture> {
  const root = await mkdtemp(join(tmpdir(), 'us-qsdc-'));
  const host = new QsdHost({ directory: join(root, 'vms'), runDirectory: join(root, 'run') });
  const hypervisor = new QsdHypervisor(host);
  const disks = TARGETS.map((target) => ({ target, path: join(root, `${target}.qcow2`), format: 'qcow2' as const }));
  for (const { path, format } of disks) await createImage(path, SIZE, { format });
  const definition = JSON.stringify({ id: VM, name: 'conforming', disks, network: 'connected' });
  const settings = { otherDisks: 'keep', network: 'as-defined' } as const;
  await hypervisor.define({ definition, id: VM, name: 'conforming', disks: new Map(), ...settings });
  await hypervisor.start(VM);
  const guest = new Guest(host);
  return {
    hypervisor,
    vmId: VM,
    targets: TARGETS,
    another: () => new QsdHypervisor(host),
    change: async () => await guest.change(),
    checkOneInstant: async (contents) => guest.check(contents),
    crash: async () => await host.crash(VM),
    async dispose() {
      await host.close();
      await rm(root, { recursive: true });
    },
  };
}

runHypervisorConformance('qsd', makeFixture);
