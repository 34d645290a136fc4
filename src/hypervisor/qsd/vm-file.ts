import { mkdir, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { makeDirectory, removeDurably, writeAtomic } from '../../lib/atomic-file.ts';
import { Failure } from '../../model/failure.ts';

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/;

const definitionSchema = z.strictObject({
  id: z.string().regex(UUID),
  name: z.string().min(1),
  disks: z.array(
    z.strictObject({
      target: z.string().regex(/^[a-z][a-z0-9]{0,15}$/),
      path: z.string().startsWith('/'),
      format: z.enum(['qcow2', 'raw']),
    }),
  ),
  network: z.enum(['connected', 'disconnected']),
});

const fileSchema = z.strictObject({
  definition: definitionSchema,
  autostart: z.boolean(),
  /** Targets by name of the bitmaps that were started and not dropped. Written before a bitmap is made. */
  bitmaps: z.record(z.string(), z.array(z.string())),
});

/** What a VM is: its identity and its disks. Its JSON is what `exportDefinition` gives. */
export type VmDefinition = Readonly<z.infer<typeof definitionSchema>>;
export type DefinedDisk = VmDefinition['disks'][number];
/** What is kept of a VM in `<directory>/<id>.json`. */
export type VmFile = Readonly<z.infer<typeof fileSchema>>;

/** Disks by their targets. Failure `not-found`. */
export function disksOf({ definition }: VmFile, targets: readonly string[]): DefinedDisk[] {
  return targets.map((target) => {
    const disk = definition.disks.find((candidate) => candidate.target === target);
    if (disk === undefined) throw new Failure('not-found', `VM ${definition.name} has no disk ${target}`);
    return disk;
  });
}

/** Reads a definition's JSON. Failure `bad-request`. */
export function parseDefinition(json: string): VmDefinition {
  return parse(json, definitionSchema, 'bad-request', 'the definition of the VM');
}

/** The VMs that are defined on a host: one file each. */
export class VmFiles {
  readonly #directory: string;
  #isMade = false;

  constructor(directory: string) {
    this.#directory = directory;
  }

  async list(): Promise<VmFile[]> {
    await mkdir(this.#directory, { recursive: true });
    const names = (await readdir(this.#directory)).filter((name) => name.endsWith('.json'));
    return await Promise.all(names.toSorted().map((name) => this.#read(join(this.#directory, name))));
  }

  /** Failure `not-found`. @param ref an id or a name. */
  async find(ref: string): Promise<VmFile> {
    const byId = UUID.test(ref) ? await this.#readIfThere(ref) : undefined;
    const found = byId ?? (await this.list()).find(({ definition: { name } }) => name === ref);
    if (found === undefined) throw new Failure('not-found', `there is no VM ${ref}`);
    return found;
  }

  async write(file: VmFile): Promise<void> {
    if (!this.#isMade) await makeDirectory(this.#directory, 0o755);
    this.#isMade = true; // once: files are written in every cycle
    await writeAtomic(this.#path(file.definition.id), `${JSON.stringify(file, null, 2)}\n`);
  }

  async remove(id: string): Promise<void> {
    await removeDurably(this.#path(id));
  }

  async #readIfThere(id: string): Promise<VmFile | undefined> {
    try {
      return await this.#read(this.#path(id));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return undefined;
      throw error;
    }
  }

  #path(id: string): string {
    return join(this.#directory, `${id}.json`);
  }

  async #read(path: string): Promise<VmFile> {
    return parse(await readFile(path, 'utf8'), fileSchema, 'io', path);
  }
}

function parse<T>(json: string, schema: z.ZodType<T>, code: 'bad-request' | 'io', what: string): T {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw new Failure(code, `${what} is not JSON`, { cause });
  }
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  throw new Failure(code, `${what}: ${issue?.path.join('.')}: ${issue?.message}`);
}
