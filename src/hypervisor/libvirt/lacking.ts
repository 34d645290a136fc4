/** What a VM would miss on this host, before it is to start here. */
import { access, readFile } from 'node:fs/promises';
import { attribute, element, elements, withXml } from './domain-xml.ts';
import type { Calls } from './rpc/calls.ts';
import { VIR_ERR, isVirError } from './rpc/error.ts';

/** What a definition wants of its host, as far as it can be looked at. */
export interface Wants {
  readonly emulator: string | undefined;
  readonly arch: string | undefined;
  readonly machine: string | undefined;
  readonly virtType: string | undefined;
  readonly cpuMode: string | undefined;
  readonly cpuModel: string | undefined;
  /** libvirt chooses firmware of that kind. */
  readonly firmware: string | undefined;
  readonly files: readonly string[];
  readonly networks: readonly string[];
  /** Bridges and network devices of the host. */
  readonly links: readonly string[];
  /** UUIDs of secrets that something is decrypted with: the state of an emulated TPM, a disk that isn't replicated. */
  readonly secrets: readonly string[];
}

export function wantsOf(definition: string): Wants {
  return withXml(definition, (document) => {
    const all = (path: string, name?: string): string[] => [
      ...new Set(
        elements(document, path)
          .map((one) => (name === undefined ? one.content.trim() : (attribute(one, name) ?? '')))
          .filter((value) => value !== ''),
      ),
    ];
    const type = element(document, '/domain/os/type');
    return {
      emulator: all('/domain/devices/emulator')[0],
      arch: attribute(type, 'arch'),
      machine: attribute(type, 'machine'),
      virtType: attribute(document.root, 'type'),
      cpuMode: attribute(element(document, '/domain/cpu'), 'mode'),
      cpuModel: all('/domain/cpu/model')[0],
      firmware: attribute(element(document, '/domain/os'), 'firmware'),
      files: [
        ...all('/domain/os/loader | /domain/os/kernel | /domain/os/initrd'),
        ...all('/domain/os/nvram', 'template'),
      ],
      networks: all("/domain/devices/interface[@type='network']/source", 'network'),
      links: [
        ...all("/domain/devices/interface[@type='bridge']/source", 'bridge'),
        ...all("/domain/devices/interface[@type='direct']/source", 'dev'),
      ],
      secrets: [
        ...new Set([
          ...all('/domain/devices//encryption', 'secret'),
          ...all('/domain/devices//encryption/secret', 'uuid'),
        ]),
      ],
    };
  });
}

/** What of that the hypervisor doesn't offer, by its domain capabilities. */
export function refusedBy(capabilities: string, { cpuMode, cpuModel, firmware }: Wants): string[] {
  return withXml(capabilities, (document) => {
    const lacking: string[] = [];
    const mode = cpuMode ?? (cpuModel === undefined ? undefined : 'custom');
    const offered = elements(document, '/domainCapabilities/cpu/mode').find((one) => attribute(one, 'name') === mode);
    if (mode !== undefined && (offered === undefined || attribute(offered, 'supported') === 'no')) {
      lacking.push(`CPU mode ${mode}`);
    } else if (mode === 'custom' && cpuModel !== undefined && offered !== undefined) {
      const model = elements(offered, 'model').find((one) => one.content === cpuModel);
      if (model === undefined || attribute(model, 'usable') === 'no') lacking.push(`CPU model ${cpuModel}`);
    }
    const kinds = elements(document, "/domainCapabilities/os/enum[@name='firmware']/value").map((one) => one.content);
    if (firmware !== undefined && !kinds.includes(firmware)) lacking.push(`${firmware} firmware`);
    return lacking;
  });
}

/** In words, one for each. */
export async function lackingFor(calls: Calls, definition: string): Promise<string[]> {
  const wants = wantsOf(definition);
  return [
    ...(await lackingMachine(calls, wants)),
    ...(await missingOf(wants.files, isThere)).map((path) => `file ${path}`),
    ...(await missingOf(wants.networks, (name) => calls.hasNetwork(name))).map((name) => `network ${name}`),
    ...(await lackingLinks(wants.links)).map((name) => `bridge or network device ${name}`),
    ...(await missingOf(wants.secrets, (uuid) => calls.hasSecret(uuid))).map((uuid) => `secret ${uuid}`),
  ];
}

async function lackingMachine(calls: Calls, wants: Wants): Promise<string[]> {
  try {
    return refusedBy(await calls.domainCapabilities(wants), wants);
  } catch (error) {
    if (!isVirError(error, VIR_ERR.invalidArgument, VIR_ERR.configUnsupported)) throw error;
    const { message } = (error as Error).cause as Error;
    return [`machine type ${wants.machine ?? 'as defined'} (${message})`];
  }
}

/** Those that aren't there. */
async function missingOf(wanted: readonly string[], has: (one: string) => Promise<boolean>): Promise<string[]> {
  const found = await Promise.all(wanted.map(has));
  return wanted.filter((_, i) => found[i] === false);
}

async function isThere(path: string): Promise<boolean> {
  return await access(path).then(
    () => true,
    () => false, // not there, or not to be reached: not of use
  );
}

/** Of this process's network namespace, which is libvirt's. */
async function lackingLinks(wanted: readonly string[]): Promise<string[]> {
  if (wanted.length === 0) return [];
  const present = (await readFile('/proc/self/net/dev', 'utf8')).split('\n').map((line) => line.split(':')[0]!.trim());
  return wanted.filter((name) => !present.includes(name));
}
