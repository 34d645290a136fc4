/** From a YAML file to the configuration of a daemon: every value there, checked, defaults that depend on others too. */
import { readFile } from 'node:fs/promises';
import { availableParallelism, hostname } from 'node:os';
import { join } from 'node:path';
import { isMap, isScalar, LineCounter, parseDocument, type Document } from 'yaml';
import type * as z from 'zod';
import { Failure } from '../../model/failure.ts';
import { options, type CheckedOptions } from './options.ts';

type Derived = 'name' | 'advertise' | 'replicaDirectory' | 'outboxDirectory' | 'trackingDirectory' | 'openPoints';

/** What a daemon runs with. `libvirtSocket` is left out where it is to be found. Sizes are bytes. */
export type Config = Readonly<
  Omit<CheckedOptions, Derived | 'libvirtSocket'> & { [K in Derived]: NonNullable<CheckedOptions[K]> }
> & {
  readonly libvirtSocket?: string;
};

/** Reads a configuration file. Failure `bad-config` names file, line and key of everything that is wrong. */
export async function readConfig(file: string): Promise<Config> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    throw new Failure('bad-config', `The configuration file cannot be read: ${(cause as Error).message}`, {
      cause,
      hint: 'Name an existing file; examples/config/understudyd.yaml is one to start from.',
    });
  }
  return parseConfig(text, file);
}

/** As `readConfig`, from the text of a file. @param file is named in errors. */
export function parseConfig(text: string, file: string, host: string = hostname()): Config {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines });
  const syntax = document.errors.map(
    (error) => `${file}:${lines.linePos(error.pos[0]).line}: ${error.message.split('\n')[0]?.replace(/:$/, '')}`,
  );
  if (syntax.length > 0) throw new Failure('bad-config', syntax.join('\n'));

  const checked = options.safeParse(document.toJS() ?? {});
  if (!checked.success) {
    throw new Failure(
      'bad-config',
      checked.error.issues.flatMap((issue) => describe(issue, document, lines, file)).join('\n'),
    );
  }
  return complete(checked.data, host);
}

/** The configuration of a host without a file. */
export function defaultConfig(host: string = hostname()): Config {
  return complete(options.parse({}), host);
}

function complete(given: CheckedOptions, host: string): Config {
  const name = given.name ?? nameOf(host);
  const { libvirtSocket, ...rest } = given;
  return {
    ...rest,
    name,
    advertise: given.advertise ?? `${name}:${given.listen.port}`,
    replicaDirectory: given.replicaDirectory ?? join(given.stateDirectory, 'replicas'),
    openPoints: given.openPoints ?? 2 * availableParallelism(),
    trackingDirectory: given.trackingDirectory ?? join(given.stateDirectory, 'tracking'),
    outboxDirectory: given.outboxDirectory ?? join(given.stateDirectory, 'outbox'),
    ...(libvirtSocket === undefined ? {} : { libvirtSocket }),
  };
}

function nameOf(host: string): string {
  const name = options.shape.name.safeParse(host.toLowerCase());
  if (name.success && name.data !== undefined) return name.data;
  throw new Failure('bad-config', `The host name "${host}" can't be the name of this host among its peers`, {
    hint: 'Set `name` in the configuration.',
  });
}

function describe(issue: z.core.$ZodIssue, document: Document, lines: LineCounter, file: string): string[] {
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => {
      const path = [...issue.path, key];
      return `${file}:${lineOf(path, document, lines)}: ${path.join('.')}: there is no such option`;
    });
  }
  const key = issue.path.length === 0 ? '' : `${issue.path.join('.')}: `;
  return [`${file}:${lineOf(issue.path, document, lines)}: ${key}${reason(issue)}`];
}

/** A choice of types reports each of them; the one that says most is the last. */
function reason(issue: z.core.$ZodIssue): string {
  if (issue.code !== 'invalid_union') return issue.message;
  return issue.errors.at(-1)?.[0]?.message ?? issue.message;
}

/** Line of the key at `path`; of its parent where it isn't written. */
function lineOf(path: readonly PropertyKey[], document: Document, lines: LineCounter): number {
  for (let depth = path.length; depth > 0; depth--) {
    const parent = document.getIn(path.slice(0, depth - 1), true);
    const key = path[depth - 1];
    if (!isMap(parent)) continue;
    for (const { key: node } of parent.items) {
      if (isScalar(node) && node.value === key && node.range) return lines.linePos(node.range[0]).line;
    }
  }
  return 1;
}
