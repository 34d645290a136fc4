/** Looks all the time whether the VM runs on both hosts, by virsh, which doesn't know of us. */
import { until } from '../src/lib/clock.ts';
import { sleep } from '../src/lib/clock.ts';
import { Failure } from '../src/model/failure.ts';
import type { HostProcess } from '../lab/hosts/host-process.ts';
import type { LabHost } from '../lab/hosts/host.ts';
import type { Sample } from './checks.ts';

const EVERY_MS = 200;
const ANSWER_TIMEOUT_MS = 30_000;
const PROMPT = 'virsh # ';
const STATE = /^(no state|running|idle|paused|in shutdown|shut off|crashed|pmsuspended)$/m;

/** One virsh for many questions: a question costs a millisecond. */
class Virsh {
  readonly #host: LabHost;
  readonly #question: string;
  #process: HostProcess | undefined;
  #said = '';

  constructor(host: LabHost, domain: string) {
    this.#host = host;
    this.#question = `domstate ${domain}\n`;
  }

  /** libvirt's word for the VM's state; null when libvirt can't be asked. */
  async state(): Promise<string | null> {
    if (!this.#host.running) return null;
    if (this.#process?.running !== true) {
      this.#start();
      await this.#prompt();
    }
    if (this.#process?.running !== true) return null;
    this.#said = '';
    this.#process.child.stdin!.write(this.#question);
    await this.#prompt();
    return STATE.exec(this.#said)?.[1] ?? null;
  }

  async end(): Promise<void> {
    this.#process?.child.stdin!.end();
    await this.#process?.ended;
  }

  #start(): void {
    this.#said = '';
    const virsh = this.#host.spawn(['virsh', '-q', '-c', 'qemu:///system'], { stdio: ['pipe', 'pipe', 'ignore'] });
    virsh.child.stdin!.on('error', () => undefined); // its host was killed: `running` says so
    virsh.child.stdout!.setEncoding('utf8').on('data', (text: string) => (this.#said += text));
    this.#process = virsh;
  }

  async #prompt(): Promise<void> {
    await until(() => this.#said.endsWith(PROMPT) || this.#process?.running !== true, {
      timeoutMs: ANSWER_TIMEOUT_MS,
      everyMs: 5,
      onTimeout: () => new Failure('libvirt', `virsh on ${this.#host.name} does not answer`),
    });
  }
}

export class TwoRunners {
  readonly samples: Sample[] = [];
  readonly #a: Virsh;
  readonly #b: Virsh;
  #stopped = false;
  readonly #watching: Promise<void>;

  /** Begins at once; a host that is off, or whose libvirt isn't up yet, is asked as soon as it is. */
  constructor(a: LabHost, b: LabHost, domain: string) {
    this.#a = new Virsh(a, domain);
    this.#b = new Virsh(b, domain);
    this.#watching = this.#watch();
    this.#watching.catch(() => undefined); // `stop` tells
  }

  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#watching;
    await Promise.all([this.#a.end(), this.#b.end()]);
  }

  async #watch(): Promise<void> {
    while (!this.#stopped) {
      const [a, b] = await Promise.all([this.#a.state(), this.#b.state()]);
      this.samples.push({ at: Date.now(), a, b });
      await sleep(EVERY_MS);
    }
  }
}
