import { until } from '../../lib/clock.ts';
import type { Log } from '../../lib/log.ts';
import { Failure } from '../../model/failure.ts';
import type { DefineRequest } from '../hypervisor.ts';
import { changedLinks, rewriteDefinition } from './definition.ts';
import { type Domains, isActive, uuidBytes } from './domains.ts';
import { SHUTDOWN_FLAG, UNDEFINE_FLAG, XML_FLAG, type Calls, type DomainRef } from './rpc/calls.ts';
import { VIR_ERR, isVirError } from './rpc/error.ts';
import { withoutSecrets, withSecretsOf } from './secrets.ts';

/** For so long the agent may think about a request to shut down, ms. */
const AGENT_TIMEOUT_MS = 7000;
/** When a guest that took the agent's request still isn't off after this, the power button is pressed, too; ms. */
const AGENT_PATIENCE_MS = 15_000;
const POLL_MS = 50;

const NOT_OFFERED =
  'Give the VM on its primary server what both hosts have (`virsh edit`; `virsh capabilities` on this host lists the machine types that its QEMU ' +
  "knows: the older QEMU's are known to the newer one), or install the other host's versions of QEMU and libvirt here.";

/** Definitions of VMs, and their power. */
export class Lifecycle {
  readonly #calls: Calls;
  readonly #domains: Domains;
  readonly #log: Log;

  constructor(calls: Calls, domains: Domains, log: Log) {
    this.#calls = calls;
    this.#domains = domains;
    this.#log = log;
  }

  async exportDefinition(vmId: string): Promise<string> {
    const domain = await this.#domains.find(vmId);
    return withoutSecrets(await this.#calls.xml(domain, XML_FLAG.inactive), await this.#fullXml(domain));
  }

  async define(request: DefineRequest): Promise<void> {
    const owner = await this.#domains.findId(request.secretsOf ?? request.id);
    const rewritten = rewriteDefinition(request);
    const xml = owner === undefined ? rewritten : withSecretsOf(rewritten, await this.#fullXml(owner));
    const namesake = await this.#domains.findName(request.name);
    if (namesake !== undefined && !uuidBytes(request.id).equals(namesake.uuid)) {
      throw new Failure('already-exists', `another VM is called ${request.name} already`, {
        hint: 'Rename or undefine that VM.',
      });
    }
    const present = await this.#domains.findId(request.id);
    if (present === undefined) {
      await this.#define(xml);
      return;
    }
    // memory saved over the old disks would be resumed over the new ones
    if (request.disks.size > 0 && !isActive(present) && (await this.#calls.hasManagedSave(present))) {
      if (request.savedMemory === 'refuse') throw memorySaved(present.name);
      await this.#calls.removeManagedSave(present);
    }
    if (present.name === request.name) await this.#define(xml);
    else await this.#rename(present, xml);
  }

  /** What libvirt refuses because this host hasn't it is said with its cure. */
  async #define(xml: string): Promise<void> {
    try {
      await this.#calls.define(xml);
    } catch (error) {
      if (!isVirError(error, VIR_ERR.configUnsupported, VIR_ERR.invalidArgument)) throw error;
      const { cause } = error as Failure;
      throw new Failure('libvirt', `libvirt can't define the VM on this host: ${(cause as Error).message}`, {
        cause,
        hint: NOT_OFFERED,
      });
    }
  }

  async undefine(vmId: string): Promise<void> {
    const domain = await this.#domains.findId(vmId);
    if (domain === undefined) return;
    if (isActive(domain)) throw new Failure('vm-running', `VM ${domain.name} runs; its definition can't be removed`);
    await this.#undefine(domain);
  }

  async setAutostart(vmId: string, on: boolean): Promise<void> {
    await this.#calls.setAutostart(await this.#domains.find(vmId), on);
  }

  async start(vmId: string): Promise<void> {
    const domain = await this.#domains.find(vmId);
    if (isActive(domain)) return;
    await this.#calls.create(domain);
  }

  async shutdown(vmId: string, timeoutMs: number): Promise<void> {
    const domain = await this.#domains.find(vmId);
    if (!isActive(domain)) return;
    const start = performance.now();
    const deadline = start + timeoutMs;
    let pressed = !(await this.#askAgent(domain, Math.min(AGENT_TIMEOUT_MS, timeoutMs)));
    if (pressed) await this.#pressPowerButton(domain);
    const pressAt = Math.min(start + AGENT_PATIENCE_MS, start + timeoutMs / 2);
    await until(
      async () => {
        if (await this.#isOff(vmId)) return true;
        if (!pressed && performance.now() > pressAt) {
          pressed = true;
          await this.#pressPowerButton(domain);
        }
        return false;
      },
      {
        timeoutMs: Math.max(0, deadline - performance.now()),
        everyMs: POLL_MS,
        onTimeout: () => new Failure('shutdown-timeout', `VM ${domain.name} did not shut down within ${timeoutMs} ms`),
      },
    );
  }

  async destroy(vmId: string): Promise<void> {
    const domain = await this.#domains.findId(vmId);
    if (domain === undefined || !isActive(domain)) return;
    await tolerating(this.#calls.destroy(domain), VIR_ERR.operationInvalid); // off by itself in between
    await until(() => this.#isOff(vmId), {
      timeoutMs: 60_000,
      everyMs: POLL_MS,
      onTimeout: () => new Failure('timeout', `VM ${domain.name} was ended, but libvirt doesn't see it off`),
    });
  }

  async suspend(vmId: string): Promise<void> {
    await this.#calls.suspend(await this.#active(vmId));
  }

  /** Tries again until the guest runs: right after an aborted job QEMU may fall back to paused (seen once in three). */
  async resume(vmId: string): Promise<void> {
    const domain = await this.#active(vmId);
    await until(
      async () => {
        if ((await this.#domains.state(domain)) === 'running') return true;
        await this.#calls.resume(domain);
        return (await this.#domains.state(domain)) === 'running';
      },
      {
        timeoutMs: 5000,
        everyMs: 100,
        onTimeout: () => new Failure('libvirt', `VM ${domain.name} pauses again whenever it is resumed`),
      },
    );
  }

  async setNetwork(vmId: string, network: DefineRequest['network']): Promise<void> {
    const domain = await this.#domains.find(vmId);
    if (!isActive(domain)) return;
    const live = await this.#calls.xml(domain, XML_FLAG.secure);
    const defined = await this.#fullXml(domain);
    for (const adapter of changedLinks(live, defined, network)) await this.#calls.updateDevice(domain, adapter);
  }

  /** The persistent definition with its secrets: for this host's libvirt alone. */
  async #fullXml(domain: DomainRef): Promise<string> {
    return await this.#calls.xml(domain, XML_FLAG.inactive + XML_FLAG.secure);
  }

  /** libvirt doesn't rename what it defines: the old definition goes, autostart is carried over. */
  async #rename(present: DomainRef, xml: string): Promise<void> {
    if (isActive(present)) throw new Failure('vm-running', `VM ${present.name} runs; it can't be renamed`);
    const autostart = await this.#calls.autostart(present);
    const before = await this.#fullXml(present);
    await this.#undefine(present);
    let defined: DomainRef;
    try {
      defined = await this.#calls.define(xml);
    } catch (error) {
      defined = await this.#calls.define(before);
      if (autostart) await this.#calls.setAutostart(defined, true);
      throw error;
    }
    if (autostart) await this.#calls.setAutostart(defined, true);
  }

  async #undefine(domain: DomainRef): Promise<void> {
    const { managedSave, snapshotsMetadata, keepNvram, checkpointsMetadata } = UNDEFINE_FLAG;
    await this.#calls.undefine(domain, managedSave + snapshotsMetadata + keepNvram + checkpointsMetadata);
  }

  /** Whether a guest agent took the request. */
  async #askAgent(domain: DomainRef, timeoutMs: number): Promise<boolean> {
    if ((await this.#domains.describe(domain)).agentChannel !== 'connected') return false;
    try {
      await this.#calls.shutdown(domain, SHUTDOWN_FLAG.agent, timeoutMs);
      return true;
    } catch (error) {
      if (!(error instanceof Failure) || !['libvirt', 'timeout'].includes(error.code)) throw error;
      this.#log.info({ vm: domain.name, err: error }, 'the guest agent took no shutdown request; pressing the button');
      return false;
    }
  }

  async #pressPowerButton(domain: DomainRef): Promise<void> {
    await tolerating(this.#calls.shutdown(domain, SHUTDOWN_FLAG.acpi), VIR_ERR.operationInvalid);
  }

  async #isOff(vmId: string): Promise<boolean> {
    const domain = await this.#domains.findId(vmId);
    return domain === undefined || !isActive(domain); // a transient VM is gone when it is off
  }

  async #active(vmId: string): Promise<DomainRef> {
    const domain = await this.#domains.find(vmId);
    if (!isActive(domain)) throw new Failure('vm-not-running', `VM ${domain.name} is off`);
    return domain;
  }
}

function memorySaved(name: string): Failure {
  return new Failure(
    'wrong-state',
    `the memory of VM ${name} was saved: it goes on from there with the disks as they are`,
    {
      hint: `Start it and shut the guest down, or give up what was saved: \`virsh managedsave-remove ${name}\`.`,
    },
  );
}

async function tolerating(call: Promise<void>, ...codes: number[]): Promise<void> {
  try {
    await call;
  } catch (error) {
    if (!isVirError(error, ...codes)) throw error;
  }
}
