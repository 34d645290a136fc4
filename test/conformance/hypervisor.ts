/** What every implementation of the port `src/hypervisor/hypervisor.ts` must do. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import {
  BITMAP_PREFIX,
  type Hypervisor,
  type OpenPointRequest,
  type Point,
  type PointExport,
} from '../../src/hypervisor/hypervisor.ts';
import { sleep } from '../../src/lib/clock.ts';
import { Failure, type FailureCode } from '../../src/model/failure.ts';
import { allExtents, dirtyExtents, readPieces, withHoles } from '../../src/qemu/disk.ts';
import { NbdClient } from '../../src/qemu/nbd/client.ts';

/** A VM with disks under an implementation, and what a test can do to it from outside. */
export interface HypervisorFixture {
  readonly hypervisor: Hypervisor;
  /** A VM that is running, if the implementation runs VMs, with two or more disks that can be tracked, at most 64 MiB each. */
  readonly vmId: string;
  readonly targets: readonly string[];
  /** A second instance on the same host: what a restarted daemon would make. */
  another(): Hypervisor;
  /** Resolves when every disk has been written to since the call. */
  change(): Promise<void>;
  /** Throws unless these contents, by target, can be those of one instant. */
  checkOneInstant(contents: ReadonlyMap<string, Buffer>): Promise<void>;
  /** For implementations that run VMs: how a running one dies, without warning. */
  readonly crash?: () => Promise<void>;
  dispose(): Promise<void>;
}

const NO_VM = '00000000-0000-4000-8000-000000000000';

/** Says whether it is a Failure of that code. */
export function failure(code: FailureCode): (error: unknown) => boolean {
  return (error) => {
    if (error instanceof Failure && error.code === code) return true;
    throw error;
  };
}

/** Opens a point, of a VM that has just started as soon as its agent is there. */
export async function openWhenReady(hypervisor: Hypervisor, request: OpenPointRequest): Promise<Point> {
  for (const begun = performance.now(); ; await sleep(100)) {
    try {
      return await hypervisor.openPoint(request);
    } catch (error) {
      const waits = error instanceof Failure && error.code === 'guest-starting' && performance.now() - begun < 90_000;
      if (!waits) throw error;
    }
  }
}

/** A replica in memory: applies what points say has changed, and compares with the whole of the point. */
export class Copy {
  readonly #contents = new Map<string, Buffer>();

  /** Gives the bytes that the point said had changed. */
  async follow(point: Point): Promise<number> {
    let changed = 0;
    for (const each of point.exports) changed += await this.#followDisk(each);
    return changed;
  }

  /** Follows a point, then demands to be equal to it. */
  async followAndCompare(point: Point): Promise<number> {
    const changed = await this.follow(point);
    for (const each of point.exports) {
      const whole = Buffer.alloc(each.size);
      await readInto(whole, { ...each, dirtyContext: null });
      assert.ok(whole.equals(this.#contents.get(each.target)!), `the increment of ${each.target} is not complete`);
    }
    return changed;
  }

  get contents(): ReadonlyMap<string, Buffer> {
    return this.#contents;
  }

  async #followDisk(each: PointExport): Promise<number> {
    let content = this.#contents.get(each.target);
    if (content?.length !== each.size) this.#contents.set(each.target, (content = Buffer.alloc(each.size)));
    return await readInto(content, each);
  }
}

async function readInto(content: Buffer, { socketPath, exportName, dirtyContext, size }: PointExport): Promise<number> {
  const metaContexts = ['base:allocation', ...(dirtyContext === null ? [] : [dirtyContext])];
  const client = await NbdClient.connect({ socketPath, exportName, metaContexts });
  try {
    assert.equal(client.size, size);
    assert.equal(client.readOnly, true);
    const changed =
      dirtyContext === null
        ? await allExtents(client, 0, size)
        : await withHoles(client, await dirtyExtents(client, dirtyContext, 0, size));
    for await (const piece of readPieces(client, changed)) {
      if (piece.zero) content.fill(0, piece.offset, piece.offset + piece.length);
      else piece.data.copy(content, piece.offset);
    }
    return changed.reduce((total, extent) => total + extent.length, 0);
  } finally {
    await client.close();
  }
}

export function runHypervisorConformance(name: string, make: () => Promise<HypervisorFixture>): void {
  describe(`${name} is a Hypervisor`, () => {
    let fixture: HypervisorFixture;
    let hypervisor: Hypervisor;
    let vmId: string;
    const copy = new Copy();
    let serial = 0;
    const bitmap = () => `${BITMAP_PREFIX}c${serial}`;

    before(async () => {
      fixture = await make();
      ({ hypervisor, vmId } = fixture);
    });
    after(async () => {
      await fixture?.dispose();
    });

    /** One cycle: what changed since the last one. */
    async function cycle(work: (point: Point) => Promise<unknown> = (point) => copy.followAndCompare(point)) {
      const since = serial === 0 ? null : bitmap();
      serial++;
      const point = await openWhenReady(hypervisor, { vmId, targets: fixture.targets, since, next: bitmap() });
      assert.ok(point.instant <= point.instantEnd && point.instantEnd <= Date.now());
      assert.deepEqual(
        point.exports.map((each) => [each.target, each.dirtyContext !== null]),
        fixture.targets.map((target) => [target, since !== null]),
      );
      await work(point);
      await hypervisor.closePoint(vmId);
      if (since !== null) await hypervisor.dropBitmap(vmId, since);
    }

    async function usableBitmaps(): Promise<string[]> {
      const list = await hypervisor.listBitmaps(vmId);
      return list.filter((each) => each.usable).map((each) => each.name);
    }

    test('finds VMs by id and by name', async () => {
      const vm = await hypervisor.getVm(vmId);
      assert.equal(vm.id, vmId);
      assert.deepEqual(await hypervisor.getVm(vm.name), vm);
      assert.deepEqual(
        (await hypervisor.listVms()).find((each) => each.id === vmId),
        vm,
      );
      for (const target of fixture.targets) {
        const disk = vm.disks.find((each) => each.target === target);
        assert.ok(disk !== undefined && disk.size > 0 && disk.unsupported === undefined, target);
      }
      await assert.rejects(hypervisor.getVm(NO_VM), failure('not-found'));
    });

    test('gives all disks at one instant, whole at first', async () => {
      await fixture.change();
      await cycle();
      await fixture.checkOneInstant(copy.contents);
      assert.deepEqual(await hypervisor.listBitmaps(vmId), [{ name: bitmap(), usable: true }]);
    });

    test('gives exactly what changed, over several rounds, and a point stands still while the VM writes', async () => {
      for (let round = 0; round < 4; round++) {
        await fixture.change();
        await cycle(async (point) => {
          await fixture.change(); // not in this point
          const changed = await copy.followAndCompare(point);
          const whole = point.exports.reduce((total, each) => total + each.size, 0);
          assert.ok(changed > 0 && changed < whole / 2, `${changed} of ${whole} bytes`);
          await fixture.checkOneInstant(copy.contents);
        });
      }
      assert.deepEqual(await hypervisor.listBitmaps(vmId), [{ name: bitmap(), usable: true }]);
    });

    test('a cycle that fails is repeated from the same bitmap, and nothing is forgotten', async () => {
      await fixture.change();
      const request = { vmId, targets: fixture.targets, since: bitmap(), next: `${BITMAP_PREFIX}failed` };
      await openWhenReady(hypervisor, request);
      await fixture.change();
      await hypervisor.closePoint(vmId);
      assert.deepEqual((await usableBitmaps()).toSorted(), [bitmap(), request.next].toSorted());
      await hypervisor.dropBitmap(vmId, request.next);
      await fixture.change();
      await cycle();
    });

    test('a point left open by a predecessor is ended', async () => {
      const predecessor = fixture.another();
      const request = { vmId, targets: fixture.targets, since: bitmap(), next: `${BITMAP_PREFIX}left` };
      await openWhenReady(predecessor, request);
      await hypervisor.closePoint(vmId);
      await hypervisor.closePoint(vmId); // none is open: no error
      await hypervisor.dropBitmap(vmId, request.next);
      await predecessor.close();
      await cycle();
    });

    test('a bitmap that is not there is never taken for an empty one', async () => {
      const next = `${BITMAP_PREFIX}after-lost`;
      const request = { vmId, targets: fixture.targets, since: `${BITMAP_PREFIX}never-was`, next };
      await assert.rejects(openWhenReady(hypervisor, request), failure('tracking-lost'));
      assert.deepEqual(await hypervisor.listBitmaps(vmId), [{ name: bitmap(), usable: true }]);
      await fixture.change();
      await cycle(); // and nothing was left open
    });

    test('bitmaps are started and dropped, twice if asked twice', async () => {
      const name = `${BITMAP_PREFIX}extra`;
      await hypervisor.startBitmap(vmId, fixture.targets, name);
      await hypervisor.startBitmap(vmId, fixture.targets, name);
      assert.deepEqual((await usableBitmaps()).toSorted(), [bitmap(), name].toSorted());
      await hypervisor.dropBitmap(vmId, name);
      await hypervisor.dropBitmap(vmId, name);
      assert.deepEqual(await usableBitmaps(), [bitmap()]);
      await assert.rejects(hypervisor.dropBitmap(vmId, 'of-somebody-else'), failure('bad-request'));
    });

    /** Of a bitmap that one disk has, and then all. */
    async function extended(name: string, between: () => Promise<void>): Promise<void> {
      await hypervisor.startBitmap(vmId, fixture.targets.slice(0, 1), name);
      await between();
      await hypervisor.startBitmap(vmId, fixture.targets, name);
      await hypervisor.startBitmap(vmId, fixture.targets, name);
      assert.deepEqual((await usableBitmaps()).toSorted(), [bitmap(), name].toSorted());
    }

    test('a bitmap is started on further disks, where it begins then; what it knows of the others stays', async () => {
      const name = `${BITMAP_PREFIX}further`;
      await extended(name, () => fixture.change());
      const point = await openWhenReady(hypervisor, { vmId, targets: fixture.targets, since: name, next: null });
      const changed: number[] = [];
      for (const { socketPath, exportName, dirtyContext, size } of point.exports) {
        const client = await NbdClient.connect({ socketPath, exportName, metaContexts: [dirtyContext!] });
        const extents = await dirtyExtents(client, dirtyContext!, 0, size);
        changed.push(extents.reduce((total, { length }) => total + length, 0));
        await client.close();
      }
      assert.ok(changed[0]! > 0 && changed.at(-1)! < changed[0]!, `${changed.join()} bytes`);
      await hypervisor.closePoint(vmId);
      await hypervisor.dropBitmap(vmId, name);
      assert.deepEqual(await usableBitmaps(), [bitmap()]);
    });

    test('a disk that the VM does not have is refused', async () => {
      const request = { vmId, targets: ['nosuch'], since: null, next: null };
      await assert.rejects(hypervisor.openPoint(request), failure('not-found'));
    });

    runPowerTests();

    function runPowerTests(): void {
      test('a frozen VM gives points, too', async (context) => {
        if (fixture.crash === undefined) return context.diagnostic('runs no VMs');
        await hypervisor.suspend(vmId);
        assert.equal((await hypervisor.getVm(vmId)).state, 'paused');
        await cycle();
        await hypervisor.resume(vmId);
        assert.equal((await hypervisor.getVm(vmId)).state, 'running');
      });

      test('what was written up to the shutdown is read from the powered-off VM, which waits meanwhile', async (context) => {
        if (fixture.crash === undefined) return context.diagnostic('runs no VMs');
        await fixture.change();
        await hypervisor.shutdown(vmId, 60_000);
        await hypervisor.shutdown(vmId, 60_000); // off already: no error
        assert.equal((await hypervisor.getVm(vmId)).state, 'off');
        assert.deepEqual(await usableBitmaps(), [bitmap()]);
        const further = `${BITMAP_PREFIX}further-off`;
        await extended(further, async () => undefined);
        await hypervisor.dropBitmap(vmId, further);
        await cycle(async (point) => {
          assert.ok((await copy.followAndCompare(point)) > 0);
          await assert.rejects(hypervisor.start(vmId));
        });
        await fixture.checkOneInstant(copy.contents);
        await hypervisor.start(vmId);
        await hypervisor.start(vmId);
        await fixture.change();
        await cycle();
      });

      test('bitmaps outlive a power cut of the VM', async (context) => {
        if (fixture.crash === undefined) return context.diagnostic('runs no VMs');
        await fixture.change();
        await hypervisor.destroy(vmId);
        await hypervisor.destroy(vmId);
        await hypervisor.destroy('99999999-0000-4000-8000-000000000000'); // there is none
        assert.deepEqual(await usableBitmaps(), [bitmap()]);
        await hypervisor.start(vmId);
        await fixture.change();
        await cycle();
      });

      test('when the hypervisor process is killed, tracking is lost: said, not guessed', async (context) => {
        if (fixture.crash === undefined) return context.diagnostic('runs no VMs');
        // one bitmap that was loaded from the disks, one that only memory knew
        const fresh = `${BITMAP_PREFIX}fresh`;
        await hypervisor.startBitmap(vmId, fixture.targets, fresh);
        const before = [bitmap(), fresh];
        await fixture.crash();
        const lost = { vmId, targets: fixture.targets, next: null };
        for (const since of before)
          await assert.rejects(openWhenReady(hypervisor, { ...lost, since }), failure('tracking-lost'));
        await hypervisor.start(vmId);
        for (const since of before)
          await assert.rejects(openWhenReady(hypervisor, { ...lost, since }), failure('tracking-lost'));
        assert.deepEqual(await usableBitmaps(), []);
        for (const each of await hypervisor.listBitmaps(vmId)) await hypervisor.dropBitmap(vmId, each.name);
        for (const each of before) await hypervisor.dropBitmap(vmId, each);
        assert.deepEqual(await hypervisor.listBitmaps(vmId), []);
        serial = 0;
        await cycle();
        await fixture.change();
        await cycle();
      });
    }
  });
}
