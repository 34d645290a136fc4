/**
 * Bits flipped behind everybody's back, one after the other, on a relationship of two hosts whose guest goes on writing: at rest in the
 * disks, undo logs, received logs and digest files of the replica, in the disk, the digests and the outbox of the primary, and on the
 * way. Each is found, and mended, or what it spoils is refused; after each, every recovery point reads as what it was, or is refused.
 */
import assert from 'node:assert/strict';
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { Failure } from '../../src/model/failure.ts';
import { blocksOf } from '../../src/digests/digest-file.ts';
import type { Replica } from '../../src/replica/replica.ts';
import { DIGEST_BLOCK } from '../../src/protocol/endpoint.ts';
import { flipAnywhere, flipBit, flipStored, flipStoredAt } from './corruption.ts';
import { digestsOf } from './replica-host.ts';
import { difference } from './replica-primary.ts';
import { ReplicatedVm } from './replicated-vm.ts';
import { TwoHosts } from './two-hosts.ts';
import { DISKS, VM, VmHosts } from './vm-hosts.ts';

export const KINDS = [
  'replica disk, scrub',
  'replica disk, comparison',
  'replica image, scrub',
  'replica image, restart',
  'primary disk',
  'undo log',
  'undo log, restart',
  'received log',
  'replica digests',
  'primary digests',
  'outbox',
  'on the way',
] as const;
export type Kind = (typeof KINDS)[number];
/** `mended`: all is as it was; `refused`: what they spoilt is said, and not used. */
interface Outcome {
  readonly flipped: number;
  readonly end: 'mended' | 'refused';
}

/** Bits flipped at once where there is room for several. */
const SEVERAL = 4;

export interface CampaignOptions {
  /** Numbers in [0, 1). */
  readonly random: () => number;
  /** What is damaged, one after the other. */
  readonly kinds: readonly Kind[];
  readonly progress: (text: string) => void;
}

export interface CampaignReport {
  /** Bits flipped. */
  readonly injected: number;
  readonly mended: number;
  readonly refused: number;
  /** Reads of recovery points that were compared, and that were refused. */
  readonly compared: number;
  readonly turnedDown: number;
}

export async function corruptionCampaign(options: CampaignOptions): Promise<CampaignReport> {
  const vms = await VmHosts.make(options.random);
  const hosts = await TwoHosts.open(vms.directory, vms.hypervisors);
  let campaign: Corruptions | undefined;
  try {
    await hosts.begin();
    await vms.hypervisors.a.start(VM);
    await vms.change('a', 40);
    campaign = new Corruptions(await ReplicatedVm.enable(hosts, vms, { history: 4 }), options.random);
    for (const [i, kind] of options.kinds.entries()) {
      options.progress(`${i + 1} of ${options.kinds.length}: ${kind}`);
      await campaign.inject(kind);
    }
    return campaign.report;
  } finally {
    await (campaign?.vm.hosts ?? hosts).close();
    await vms.dispose();
  }
}

class Corruptions {
  readonly vm: ReplicatedVm;
  readonly #random: () => number;
  readonly #outcomes: Outcome[] = [];
  #compared = 0;
  #turnedDown = 0;

  constructor(vm: ReplicatedVm, random: () => number) {
    this.vm = vm;
    this.#random = random;
  }

  get report(): CampaignReport {
    const count = (wanted?: Outcome['end']) =>
      this.#outcomes.reduce((sum, { flipped, end }) => sum + (wanted === undefined || wanted === end ? flipped : 0), 0);
    return {
      injected: count(),
      mended: count('mended'),
      refused: count('refused'),
      compared: this.#compared,
      turnedDown: this.#turnedDown,
    };
  }

  async inject(kind: Kind): Promise<void> {
    // Undo logs that a round before has spoilt are gone: there are two to damage.
    for (let i = kind.startsWith('undo') ? 0 : 1; i < 2; i++) {
      await this.vm.vms.change('a', 3);
      await this.#replicated();
    }
    const outcome = await this.#kinds[kind]();
    this.#outcomes.push(outcome);
    await this.#neverUnsaid();
    if (outcome.end === 'mended') assert.equal(this.#replica.unsound.size, 0, `${kind}: all points are whole again`);
  }

  readonly #kinds: Record<Kind, () => Promise<Outcome>> = {
    'replica disk, scrub': async () => {
      const { a } = this.vm.hosts;
      a.link.cut = true;
      const { length } = await this.#flipBlocks('b');
      await this.#scrubFinds(length);
      // With the primary out of reach it can't be mended: the points that hold it are refused.
      assert.ok(this.#replica.unsound.size > 0);
      await this.#neverUnsaid();
      a.link.cut = false;
      await this.#mended();
      return { flipped: length, end: 'mended' };
    },

    'replica disk, comparison': async () => {
      const { length } = await this.#flipBlocks('b');
      await this.#comparisonFinds(length);
      await this.#mended();
      return { flipped: length, end: 'mended' };
    },

    'replica image, scrub': async () => {
      const told = this.#madeSoFar();
      await this.#flipMagic(this.vm.record('b').disks[this.#disk()]!.path);
      await this.vm.hosts.b.ask('replicationScrub', { ref: this.vm.id });
      return await this.#madeAnew(told);
    },

    'replica image, restart': async () => {
      const told = this.#madeSoFar();
      const { path } = this.vm.record('b').disks[this.#disk()]!;
      await this.vm.hosts.stop('b');
      await this.#flipMagic(path);
      await this.vm.hosts.takeBack('b');
      return await this.#madeAnew(told);
    },

    'primary disk': async () => {
      const flipped = await this.#flipBlocks('a');
      // What the guest reads from now on.
      for (const { disk, at, bit } of flipped) this.vm.vms.guest.bytes[disk]![at]! ^= 1 << bit;
      await this.#comparisonFinds(flipped.length);
      await this.#mended();
      await this.#replicated();
      return { flipped: flipped.length, end: 'mended' };
    },

    'undo log': async () => {
      const paths = new Set([await this.#undoLog(), await this.#undoLog()]);
      for (const path of paths) await flipAnywhere(path, this.#random(), this.#bit());
      await this.#scrubFinds(paths.size);
      assert.ok([...this.#replica.unsound.values()].some(({ readable }) => !readable));
      await this.#neverUnsaid();
      await this.#replica.forgetPoints();
      return { flipped: paths.size, end: 'refused' };
    },

    'undo log, restart': async () => {
      const path = await this.#undoLog();
      const before = this.#replica.points().length;
      const told = this.vm.count('b', 'replica-damaged');
      await this.vm.hosts.stop('b');
      await flipAnywhere(path, this.#random(), this.#bit());
      await this.vm.hosts.takeBack('b');
      if (this.vm.count('b', 'replica-damaged') === told) await this.#scrubFinds(1);
      assert.ok(this.#replica.points().length < before || this.#replica.unsound.size > 0);
      await this.#neverUnsaid();
      await this.#replica.forgetPoints();
      return { flipped: 1, end: 'refused' };
    },

    'received log': async () => {
      const pid = (await this.#replica.enginePid())!;
      const told = this.vm.count('b', 'replica-damaged');
      process.kill(pid, 'SIGSTOP');
      try {
        for (const waiting of [1, 2]) {
          await this.vm.vms.change('a', 3);
          await this.vm.wait(`${waiting} logs wait`, () => {
            this.vm.hosts.a.services.primaries.loop(this.vm.id).wake();
            return this.#replica.waiting >= waiting;
          });
        }
        const inbox = join(this.#replica.directory, 'inbox');
        const last = (await readdir(inbox)).filter((name) => name.endsWith('.log')).toSorted()[1]!;
        await flipAnywhere(join(inbox, last), this.#random(), this.#bit());
      } finally {
        process.kill(pid, 'SIGCONT');
      }
      await this.vm.wait('it was found', () => this.vm.count('b', 'replica-damaged') > told);
      await this.#replicated();
      return { flipped: 1, end: 'mended' };
    },

    'replica digests': async () => {
      const disk = this.#disk();
      const { target, size } = DISKS[disk]!;
      const path = join(this.#replica.directory, 'digests', `${target}.digests`);
      for (let i = 0; i < SEVERAL; i++) await flipAnywhere(path, this.#random(), this.#bit());
      const got = Buffer.from(await this.#replica.questions.digests({ target, from: 0, count: blocksOf(size) }));
      assert.ok(got.equals(digestsOf(this.vm.vms.guest.bytes[disk]!)), 'what does not check out is not believed');
      return { flipped: SEVERAL, end: 'mended' };
    },

    'primary digests': async () => {
      const path = join(this.vm.vms.directory, 'a', 'digests', this.vm.id, `${DISKS[this.#disk()]!.target}.digests`);
      for (let i = 0; i < SEVERAL; i++) await flipAnywhere(path, this.#random(), this.#bit());
      await this.vm.vms.rewrite('a');
      await this.vm.vms.change('a', 3);
      await this.#replicated();
      return { flipped: SEVERAL, end: 'mended' };
    },

    outbox: async () => {
      const { link } = this.vm.hosts.a;
      // Logs don't get through; all else does, so that none is given up before it is captured.
      const { chooser } = link;
      link.chooser = (call) =>
        call === 'put' || call === 'durableOffset' ? { call, when: 'before', code: 'unreachable' } : undefined;
      await this.vm.vms.change('a', 4);
      await this.vm.wait('a log waits in the outbox', () => {
        this.vm.hosts.a.services.primaries.loop(this.vm.id).wake();
        return (this.vm.record('a').inFlight?.makes ?? null) !== null;
      });
      const outbox = join(this.vm.vms.directory, 'a', 'outbox', this.vm.id);
      const [name] = await readdir(outbox);
      await flipAnywhere(join(outbox, name!), this.#random(), this.#bit());
      link.chooser = chooser;
      await this.#replicated();
      return { flipped: 1, end: 'mended' };
    },

    'on the way': async () => {
      const { link } = this.vm.hosts.a;
      link.flipsNext = true;
      await this.vm.vms.change('a', 4);
      await this.#replicated();
      assert.ok(!link.flipsNext);
      return { flipped: 1, end: 'mended' };
    },
  };

  get #replica(): Replica {
    return this.vm.hosts.b.services.replicas.get(this.vm.id);
  }

  #bit(): number {
    return Math.floor(this.#random() * 8);
  }

  #disk(): number {
    return Math.floor(this.#random() * DISKS.length);
  }

  /** Flips some bits of the disks, each in a block of its own. */
  async #flipBlocks(host: 'a' | 'b'): Promise<{ disk: number; at: number; bit: number }[]> {
    const out: { disk: number; at: number; bit: number }[] = [];
    const block = ({ disk, at }: { disk: number; at: number }) => `${disk} ${Math.floor(at / DIGEST_BLOCK)}`;
    while (out.length < SEVERAL) {
      const [disk, bit] = [this.#disk(), this.#bit()];
      const { path } = this.vm.record(host).disks[disk]!;
      const at = await flipStored(path, this.#random(), bit);
      if (out.every((one) => block(one) !== block({ disk, at }))) out.push({ disk, at, bit });
      else await flipStoredAt(path, at, bit); // back
    }
    return out;
  }

  /** A bit of what says that it is an image: nobody can open it any more. */
  async #flipMagic(path: string): Promise<void> {
    await flipBit(path, Math.floor(this.#random() * 4), this.#bit());
  }

  /** Images that were made anew, with the points that were lost with them. */
  #madeSoFar(): number {
    return this.vm
      .events('b')
      .filter(({ message }) => /is made anew: .*; recovery points [\d, ]+ are lost/.test(message)).length;
  }

  /** Found at the latest by what is to be applied: the points of before are gone, and said to be; what the guest has is there again. */
  async #madeAnew(told: number): Promise<Outcome> {
    const before = Math.max(...this.vm.states.keys());
    await this.vm.vms.change('a', 3);
    await this.vm.wait('it is found', () => {
      this.vm.hosts.a.services.primaries.loop(this.vm.id).wake();
      return this.#madeSoFar() > told;
    });
    await this.vm.wait('there is a point again', () => {
      this.vm.hosts.a.services.primaries.loop(this.vm.id).wake();
      return this.#replica.points().length > 0;
    });
    await this.#replicated();
    const points = this.#replica.points().map(({ sequence }) => sequence);
    assert.ok(
      points.every((sequence) => sequence > before),
      `points ${points.join(', ')} after ${before}`,
    );
    return { flipped: 1, end: 'refused' };
  }

  async #undoLog(): Promise<string> {
    const directory = join(this.#replica.directory, 'undo');
    await this.#replica.merged();
    const names = (await readdir(directory)).filter((name) => name.endsWith('.undo'));
    return join(directory, names[Math.floor(this.#random() * names.length)]!);
  }

  async #replicated(): Promise<void> {
    await this.vm.replicated('a');
    const { a } = this.vm.vms.hypervisors;
    await this.vm.wait('one bitmap is left', async () => (await a.listBitmaps(this.vm.record('a').vmId)).length === 1);
    const there = new Set(this.#replica.points().map(({ sequence }) => sequence));
    for (const sequence of this.vm.states.keys()) if (!there.has(sequence)) this.vm.states.delete(sequence);
  }

  async #scrubFinds(wanted: number): Promise<void> {
    const { found } = this.#replica.scrub.state;
    await this.vm.hosts.b.ask('replicationScrub', { ref: this.vm.id });
    await this.vm.wait('the scrub is at its end', () => this.#replica.scrub.state.pass === null);
    assert.equal(this.#replica.scrub.state.found, found + wanted, 'the scrub has found all');
  }

  async #comparisonFinds(wanted: number): Promise<void> {
    const before = this.vm.record('a').verification?.different ?? 0;
    const passes = this.vm.count('a', 'verified');
    await this.vm.hosts.a.ask('replicationVerify', { ref: this.vm.id });
    await this.vm.wait('all is compared', () => this.vm.count('a', 'verified') > passes);
    assert.equal(this.vm.record('a').verification!.different, before + wanted, 'the comparison has found all');
  }

  async #mended(): Promise<void> {
    await this.vm.wait('it is mended', () => {
      this.vm.hosts.a.services.primaries.loop(this.vm.id).wake();
      const { repairs } = this.vm.record('a').verification ?? { repairs: [] };
      return repairs.length === 0 && this.#replica.unsound.size === 0 && this.#replica.status().damage === undefined;
    });
  }

  /** Every point of which it is known what it held reads as that, or is refused. */
  async #neverUnsaid(): Promise<void> {
    for (const { sequence } of this.#replica.points()) {
      const wanted = this.vm.states.get(sequence);
      if (wanted === undefined) continue;
      try {
        assert.equal(difference(await this.vm.readPoint('b', sequence), wanted), undefined, `point ${sequence}`);
        this.#compared++;
      } catch (error) {
        if (!(error instanceof Failure) || error.code !== 'point-damaged') throw error;
        this.#turnedDown++;
      }
    }
  }
}
