/** OpenAPI 3.1 of the contract. */
import * as z from 'zod';
import { CATALOGUE, type FailureCode } from '../model/failure.ts';
import { GROUPS } from './contract.ts';
import { BASE_PATH, COMMON_ERRORS, fieldPlaces, NOTHING, type Operation } from './operation.ts';
import { FailureView } from './resources.ts';

type Json = { readonly [key: string]: unknown };

/** The document, as plain JSON. @param version of the package. */
export function describeApi(version: string): Json {
  const components: Record<string, unknown> = {};
  const failure = schemaOf(FailureView, 'output', components);
  const paths: Record<string, Record<string, unknown>> = {};
  for (const [group, operations] of Object.entries(GROUPS)) {
    for (const [name, of] of Object.entries(operations as Record<string, Operation>)) {
      const path = BASE_PATH + of.path.replace(/:(\w+)/g, '{$1}');
      (paths[path] ??= {})[of.method.toLowerCase()] = describeOperation(name, group, of, failure, components);
    }
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'understudyd',
      version,
      summary: 'Replication and failover of VMs between libvirt/QEMU hosts',
      description: 'Served on a unix socket of the host. Times are ms since the epoch, sizes bytes.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    tags: Object.keys(GROUPS).map((name) => ({ name })),
    paths,
    components: { schemas: components },
  };
}

/** Errors of an operation by HTTP status. */
export function errorsByStatus(of: Operation): Map<number, FailureCode[]> {
  const byStatus = new Map<number, FailureCode[]>();
  for (const code of [...COMMON_ERRORS, ...of.errors]) {
    const { status } = CATALOGUE[code];
    byStatus.set(status, [...(byStatus.get(status) ?? []), code]);
  }
  return new Map([...byStatus].toSorted(([a], [b]) => a - b));
}

function describeOperation(
  name: string,
  tag: string,
  of: Operation,
  failure: Json,
  components: Record<string, unknown>,
): Json {
  const places = fieldPlaces(of);
  const input = schemaOf(of.input, 'input', components);
  const fields = (input['properties'] ?? {}) as Record<string, Json>;
  const required = new Set((input['required'] ?? []) as string[]);
  const parameter = (place: 'path' | 'query') => (field: string) => {
    const { description, ...schema } = fields[field] ?? {};
    return { name: field, in: place, required: place === 'path' || required.has(field), description, schema };
  };
  const parameters = [...places.path.map(parameter('path')), ...places.query.map(parameter('query'))];
  const body = {
    type: 'object',
    properties: Object.fromEntries(places.body.map((field) => [field, fields[field]])),
    required: places.body.filter((field) => required.has(field)),
    additionalProperties: false,
  };
  return {
    operationId: name,
    tags: [tag],
    summary: of.summary,
    ...(of.description === undefined ? {} : { description: of.description }),
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(places.body.length === 0
      ? {}
      : { requestBody: { required: body.required.length > 0, content: { 'application/json': { schema: body } } } }),
    responses: {
      ...success(of, components),
      ...Object.fromEntries(
        [...errorsByStatus(of)].map(([status, codes]) => [
          String(status),
          { description: codes.join(', '), content: { 'application/json': { schema: failure } } },
        ]),
      ),
    },
  };
}

function success(of: Operation, components: Record<string, unknown>): Json {
  if (of.result === NOTHING) return { '204': { description: 'done' } };
  const schema = schemaOf(of.result, 'output', components);
  return of.stream
    ? {
        '200': {
          description:
            'Server-sent events: `item` (its data is of this schema), `failure` (a Failure; the last one), `end`.',
          content: { 'text/event-stream': { schema } },
        },
      }
    : { '200': { description: 'done', content: { 'application/json': { schema } } } };
}

/** JSON schema of `type`; what has a name of its own goes to `components` and is referred to. */
function schemaOf(type: z.ZodType, io: 'input' | 'output', components: Record<string, unknown>): Json {
  // The root is never referred to by zod, so it is put below one.
  const { properties, $defs = {} } = z.toJSONSchema(z.object({ it: type }), { io, override: loosen });
  for (const [name, schema] of Object.entries($defs)) components[name] = relocate(schema);
  return relocate(properties?.['it']) as Json;
}

/** A client must bear fields that a newer daemon adds; and the largest safe integer is no limit worth telling. */
function loosen({ zodSchema, jsonSchema }: { zodSchema: z.core.$ZodType; jsonSchema: z.core.JSONSchema.BaseSchema }) {
  const isStrict =
    zodSchema._zod.def.type === 'object' && 'catchall' in zodSchema._zod.def && zodSchema._zod.def.catchall;
  if (jsonSchema.additionalProperties === false && !isStrict) delete jsonSchema.additionalProperties;
  if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
  if (jsonSchema.minimum === Number.MIN_SAFE_INTEGER) delete jsonSchema.minimum;
}

function relocate(schema: unknown): unknown {
  return JSON.parse(JSON.stringify(schema).replaceAll('"#/$defs/', '"#/components/schemas/'));
}
