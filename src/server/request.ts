import * as z from 'zod';
import { fieldPlaces, type Operation } from '../api/operation.ts';
import { Failure } from '../model/failure.ts';

interface Parts {
  readonly params: unknown;
  readonly query: unknown;
  readonly body: unknown;
}

/** Puts the parts of a request together and checks them. Failure `bad-request` names every wrong field. */
export type ReadInput = (parts: Parts) => Record<string, unknown>;

/** Makes the reader of one operation's input. */
export function inputReader(of: Operation): ReadInput {
  const places = fieldPlaces(of);
  const isText = textFields(of.input);
  return ({ params, query, body }) => {
    if (places.body.length === 0 && hasFields(body)) {
      throw new Failure('bad-request', `${of.method} ${of.path} takes no body`);
    }
    if (body !== undefined && body !== null && !isObject(body)) {
      throw new Failure('bad-request', 'The body must be a JSON object');
    }
    if (places.query.length === 0 && hasFields(query)) {
      throw new Failure('bad-request', `${of.method} ${of.path} takes no query: send the fields as JSON`);
    }
    const parsed = of.input.safeParse({
      ...(body as object | null | undefined),
      ...decodeText(query, isText),
      ...decodeText(params, isText),
    });
    if (!parsed.success) throw new Failure('bad-request', describeIssues(parsed.error));
    return parsed.data;
  };
}

/** One sentence a wrong field: `intervalSeconds: must be at least 5`. */
export function describeIssues(error: z.ZodError): string {
  return error.issues
    .map((issue) => (issue.path.length === 0 ? issue.message : `${issue.path.join('.')}: ${issue.message}`))
    .join('; ');
}

/** URLs carry text only; numbers and truth values are recognised where the schema wants one. */
function decodeText(values: unknown, isText: ReadonlySet<string>): Record<string, unknown> {
  const out: Record<string, unknown> = {};
  for (const [name, value] of Object.entries(isObject(values) ? values : {})) {
    out[name] = typeof value === 'string' && !isText.has(name) ? decodeLiteral(value) : value;
  }
  return out;
}

function decodeLiteral(text: string): unknown {
  if (text === 'true') return true;
  if (text === 'false') return false;
  return /^-?\d+(\.\d+)?$/.test(text) ? Number(text) : text;
}

function textFields(input: z.ZodObject): Set<string> {
  const schema = z.toJSONSchema(input, { io: 'input' });
  const properties = Object.entries(schema.properties ?? {});
  return new Set(
    properties.filter(([, field]) => typeof field === 'object' && field.type === 'string').map(([name]) => name),
  );
}

function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function hasFields(value: unknown): boolean {
  return isObject(value) ? Object.keys(value).length > 0 : value !== undefined && value !== null;
}
