import { fileURLToPath } from 'node:url';
import { run } from '../../src/lib/process.ts';
import { Failure } from '../../src/model/failure.ts';
import { Namespace } from './namespace.ts';

const KINDS = ['net', 'pid'] as const;
const INIT = fileURLToPath(new URL('switch-init.sh', import.meta.url));

/** Runs a program of iproute2 inside namespaces' network; `lines` go to its -batch. */
export async function batch(namespace: Namespace, program: 'ip' | 'tc', lines: readonly string[]): Promise<void> {
  const [nsenter, ...args] = namespace.enter([program, '-batch', '-'], ['net']);
  const { code, stderr } = await run(nsenter!, args, { input: `${lines.join('\n')}\n`, timeoutMs: 10_000 });
  if (code !== 0) throw new Failure('internal', `${program} failed for "${lines.join('; ')}": ${stderr.trim()}`);
}

/** Token bucket: what the queue holds back is bounded in time, so a slow link stays a slow link and not a long one. */
const shape = (device: string, mbitPerSecond: number | null): string =>
  mbitPerSecond === null
    ? `qdisc del dev ${device} root`
    : `qdisc replace dev ${device} root tbf rate ${Math.round(mbitPerSecond * 1000)}kbit burst 32kb latency 200ms`;

/** A network card keeps its address over a boot: or the others would go on sending to the one before, for seconds. */
const macOf = (address: string): string =>
  ['02', '00', ...address.split('.').map((byte) => Number(byte).toString(16).padStart(2, '0'))].join(':');

/** The network between a lab's hosts: a bridge in a network namespace of its own, one port each. */
export class Switch {
  readonly #namespace: Namespace;

  private constructor(namespace: Namespace) {
    this.#namespace = namespace;
  }

  static async start(directory: string): Promise<Switch> {
    const namespace = await Namespace.start(KINDS, INIT, directory);
    await batch(namespace, 'ip', ['link add name switch type bridge', 'link set dev switch up']);
    return new Switch(namespace);
  }

  static find(directory: string): Namespace | undefined {
    return Namespace.find(KINDS, directory);
  }

  /** Gives a host its network: a bridge `br0` with its address (guests join it) behind the cable `eth0`. */
  async plug(port: string, host: Namespace, address: string): Promise<void> {
    await batch(this.#namespace, 'ip', [
      `link add name ${port} type veth peer name eth0 address ${macOf(address)} netns ${host.init.pid}`,
      `link set dev ${port} master switch up`,
    ]);
    await batch(host, 'ip', [
      'link set dev lo up',
      'link add name br0 type bridge',
      'link set dev eth0 master br0 up',
      `addr add ${address}/24 dev br0`,
      'link set dev br0 up',
    ]);
  }

  /** Takes the cable out. The kernel would do so itself after a host's death, but at leisure. */
  async unplug(port: string): Promise<void> {
    try {
      await batch(this.#namespace, 'ip', [`link del dev ${port}`]);
    } catch (error) {
      // it was quicker: before ip looked for the device, or between its look and its request
      if (!(error instanceof Failure) || !/Cannot find device|No such device/.test(error.message)) throw error;
    }
  }

  async setCable(port: string, connected: boolean): Promise<void> {
    await batch(this.#namespace, 'ip', [`link set dev ${port} ${connected ? 'up' : 'down'}`]);
  }

  /** Limits both directions of a host's cable. */
  async limit(port: string, host: Namespace, mbitPerSecond: number | null): Promise<void> {
    await batch(this.#namespace, 'tc', [shape(port, mbitPerSecond)]);
    await batch(host, 'tc', [shape('eth0', mbitPerSecond)]);
  }

  async stop(): Promise<void> {
    await this.#namespace.kill();
  }

  get init() {
    return this.#namespace.init;
  }
}
