/** docs/config.md, from the option table. */
import * as z from 'zod';
import { options } from './options.ts';

const INTRODUCTION = `# Configuration of understudyd

A YAML file; nothing in it is required. [examples/config/understudyd.yaml](../examples/config/understudyd.yaml) holds every
option with its default, commented out. A wrong or unknown option stops the start: the error names line and key. Sizes
are bytes, or text with a unit (KiB, MiB, GiB, TiB: powers of 1024).

| option | type | default | |
|---|---|---|---|`;

/** The page. */
export function configReference(): string {
  return `${INTRODUCTION}\n${rows(z.toJSONSchema(options, { io: 'input' }), '').join('\n')}\n`;
}

function rows(schema: z.core.JSONSchema.BaseSchema, prefix: string): string[] {
  return Object.entries(schema.properties ?? {}).flatMap(([name, value]) => {
    const option = typeof value === 'object' ? value : {};
    if (option.type === 'object' && option.properties !== undefined) return rows(option, `${prefix}${name}.`);
    const preset = option.default === undefined ? '' : `\`${JSON.stringify(option.default).replaceAll('"', '')}\``;
    return [`| \`${prefix}${name}\` | ${typeText(option)} | ${preset} | ${option.description ?? ''} |`];
  });
}

function typeText(option: z.core.JSONSchema.BaseSchema): string {
  if (option.enum !== undefined) return option.enum.map((value) => `\`${String(value)}\``).join(', ');
  if (option.type === 'object') return 'names';
  const kinds = option.anyOf ?? [];
  if (kinds.some((kind) => kind.enum !== undefined)) return kinds.map(typeText).toReversed().join(' or ');
  if (kinds.length > 0) return 'size';
  if (option.type === 'string') return option.pattern?.startsWith('^\\/') === true ? 'path' : 'text';
  return `${option.minimum} to ${option.maximum}`;
}
