/**
 * The data path, guarded by counts instead of times: what both daemons copy, hash, pack and hand to the kernel for each byte that changed.
 * They are the same on any machine; a copy more, or a block hashed once more, adds a whole 1 to one of them.
 */
import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, describe, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import type { Content, Run } from '../images/change.ts';
import { MIB } from '../images/corpus.ts';
import { fillRandom } from '../images/random.ts';
import { Pair } from '../rig/pair.ts';
import { Place } from '../rig/place.ts';
import { DIRECTORY_VARIABLE } from './count.ts';
import { difference, tally, type Tally } from './tally.ts';

const ROOT = fileURLToPath(new URL('../..', import.meta.url));
const COUNTER = new URL('./count.ts', import.meta.url).href;
const CHANGED = 48 * MIB;
const VM = 'vm';

/** The most that may be, for each byte that changed; `calls` of the kernel for each MiB. */
type Bounds = Readonly<Record<Exclude<keyof Tally, 'cpuSeconds'>, number>>;

/**
 * What is stored as it is: two copies, on the Replica server, where what TLS gives, and the small frames of the undo log, are gathered for the disk. The primary hashes each block, to know what the
 * replica has, and makes the frame's digest of that; the replica does so when it verifies and when it applies, and hashes what was there before.
 */
const PLAIN: Readonly<Record<'primary' | 'replica', Bounds>> = {
  primary: { copied: 0.1, cloned: 0.2, hashed: 1.1, packed: 0.05, unpacked: 0.05, read: 2.2, written: 2.2, calls: 600 },
  replica: { copied: 2.1, cloned: 0.2, hashed: 3.1, packed: 0.05, unpacked: 0.05, read: 3.2, written: 3.2, calls: 600 },
};
/** What packs to its half: less is hashed and sent. */
const PACKED: Readonly<Record<'primary' | 'replica', Bounds>> = {
  primary: { copied: 0.1, cloned: 0.2, hashed: 1.7, packed: 1.1, unpacked: 0.05, read: 1.7, written: 1.2, calls: 600 },
  replica: { copied: 0.6, cloned: 0.2, hashed: 2.7, packed: 1.1, unpacked: 1.1, read: 2.2, written: 2.2, calls: 600 },
};

/** Half of each 4 KiB can be packed to nothing, the other half not at all. */
const halves: Content = (target, position, round) => {
  fillRandom(target, position + (round + 2) * 2 ** 40);
  for (let at = 0; at < target.length; at += 4096) target.fill(7, at, at + 2048);
};
const RUN: Run = { offset: 16 * MIB, length: CHANGED };
/** Filled in parts so small that nothing is learnt of the link's speed: over one that seemed slow the replica would be asked first. */
const PART = 6 * MIB;
const ATTEMPTS = 5;

/** The disk is filled, so that the next cycle has before-images to keep. */
async function establish(pair: Pair): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    await pair.establish();
    for (let at = 0; at < CHANGED; at += PART) {
      await pair.change(VM, [{ offset: RUN.offset + at, length: PART }], halves, 0);
      await pair.cycle(VM);
    }
    const { linkSpeed } = (await pair.view(VM)).statistics;
    if (linkSpeed === null) return;
    assert.ok(
      attempt < ATTEMPTS,
      `this machine is too busy: ${PART / MIB} MiB go at ${(linkSpeed / MIB).toFixed(0)} MiB/s`,
    );
    await pair.remove(VM);
  }
}

void describe('the data path', () => {
  const directory = mkdtempSync(join(tmpdir(), 'us-guard-'));
  const counts = join(directory, 'counts');
  let place: Place;

  before(() => {
    execFileSync(process.execPath, [join(ROOT, 'scripts/build.ts'), '--if-changed'], { stdio: 'ignore' });
    place = new Place(directory);
    mkdirSync(counts);
    process.env[DIRECTORY_VARIABLE] = counts;
    process.env['NODE_OPTIONS'] = `--import=${COUNTER}`;
  });

  after(async () => {
    delete process.env[DIRECTORY_VARIABLE];
    delete process.env['NODE_OPTIONS'];
    await place.close();
    rmSync(directory, { recursive: true, force: true });
  });

  for (const [name, compression, bounds] of [
    ['as it is', 'none', PLAIN],
    ['packed', 1, PACKED],
  ] as const) {
    test(`what changed and is sent ${name} is copied, hashed and written no more often than it must be`, async (t) => {
      const options = {
        name: `c${compression}`,
        // Nothing else reads: how much is compared along with a cycle depends on the machine.
        config: { compression, verify: { passDays: 0 } },
        vms: { [VM]: { history: 2 } },
        diskBytes: 128 * MIB,
      };
      await place.with(Pair.open(place, options), async (pair) => {
        await establish(pair);
        await pair.change(VM, [RUN], halves, 1);
        const pids = { primary: pair.primary.pid, replica: pair.replica.pid };
        const start = { primary: tally(counts, pids.primary), replica: tally(counts, pids.replica) };
        await pair.cycle(VM);
        for (const side of ['primary', 'replica'] as const) {
          const used = difference(tally(counts, pids[side]), start[side]);
          const { calls, cpuSeconds, ...bytes } = used;
          const shares = Object.fromEntries(Object.entries(bytes).map(([kind, value]) => [kind, value / CHANGED]));
          const measured: Record<string, number> = { ...shares, calls: (calls * MIB) / CHANGED };
          t.diagnostic(
            `${side}: ${JSON.stringify(measured, (_key, value) => (typeof value === 'number' ? Number(value.toFixed(2)) : (value as unknown)))}, ${((cpuSeconds * 1024 * MIB) / CHANGED).toFixed(1)} s of CPU/GiB`,
          );
          for (const [kind, most] of Object.entries(bounds[side])) {
            assert.ok(measured[kind]! <= most, `${side}: ${kind} ${measured[kind]!.toFixed(3)}, at most ${most}`);
          }
        }
      });
    });
  }
});
