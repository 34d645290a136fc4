/** docs/rest.md, from the contract. */
import * as z from 'zod';
import { CATALOGUE } from '../model/failure.ts';
import { GROUPS } from './contract.ts';
import { BASE_PATH, fieldPlaces, NOTHING, type Operation } from './operation.ts';
import { STATES } from './resources.ts';

const INTRODUCTION = `# REST API

The daemon serves it on a unix socket (\`/run/understudy/understudyd.sock\`, mode 0600: whoever can open it can do
everything). [openapi.json](openapi.json) describes it for tools (OpenAPI 3.1).

\`\`\`sh
curl --unix-socket /run/understudy/understudyd.sock http://localhost${BASE_PATH}/replications
\`\`\`

- Times are ms since the epoch, sizes bytes, unless a name says otherwise. Fields may be added to answers.
- \`ref\` is the id of a relationship, or the name or id of its VM where it has only one.
- What takes a while answers with an *action* that goes on by itself, survives a restart of the daemon, and is followed
  with \`actionWatch\`.
- Streams are server-sent events: \`item\`, then \`end\`, or \`failure\` with the reason. A comment comes at least every 10 s.
- Every error is \`{ "code", "message", "hint", "retry" }\`: the code is stable, the hint is the cure. Every answer has an
  \`x-request-id\` that the daemon's log names too.
`;

/** The page. */
export function apiReference(): string {
  return [INTRODUCTION, ...Object.entries(GROUPS).map(groupText), statesText(), errorsText()].join('\n');
}

function groupText([group, operations]: [string, Record<string, Operation>]): string {
  const title = `## ${group.charAt(0).toUpperCase()}${group.slice(1)}\n`;
  return [title, ...Object.entries(operations).map(operationText)].join('\n');
}

function operationText([name, of]: [string, Operation]): string {
  const { path, query } = fieldPlaces(of);
  const schema = z.toJSONSchema(of.input, { io: 'input' });
  const required = new Set(schema.required);
  const fields = Object.entries(schema.properties ?? {}).map(([field, type]) => {
    const place = path.includes(field) ? 'path' : query.includes(field) ? 'query' : 'body';
    const json = typeof type === 'object' ? type : {};
    const need = required.has(field)
      ? 'required'
      : 'default' in json
        ? `default ${JSON.stringify(json.default)}`
        : 'optional';
    return `| \`${field}\` | ${place} | ${typeText(json)} | ${need} | ${json.description ?? ''} |`;
  });
  const table = ['| field | in | type | | |', '|---|---|---|---|---|', ...fields].join('\n');
  return [
    `### ${name}\n`,
    `\`${of.method} ${BASE_PATH}${of.path}\`\n`,
    `${of.summary}.${of.description === undefined ? '' : ` ${of.description}`}\n`,
    ...(fields.length === 0 ? [] : [`${table}\n`]),
    `Answers ${resultText(of)}. Errors: ${['bad-request', ...of.errors].map((code) => `\`${code}\``).join(', ')}.\n`,
  ].join('\n');
}

function resultText(of: Operation): string {
  if (of.result === NOTHING) return 'nothing (204)';
  const item = of.result instanceof z.ZodArray ? (of.result.element as z.ZodType) : of.result;
  const id = item.meta()?.id ?? 'an object';
  if (of.stream) return `a stream of ${id}`;
  return of.result instanceof z.ZodArray ? `a list of ${id}` : id;
}

function typeText(json: z.core.JSONSchema.BaseSchema): string {
  if (json.enum !== undefined) return json.enum.map((value) => `\`${String(value)}\``).join(', ');
  const isLimit = (value: unknown): boolean => typeof value === 'number' && Math.abs(value) < Number.MAX_SAFE_INTEGER;
  const range = [
    ...(isLimit(json.minimum) ? [`≥ ${json.minimum}`] : []),
    ...(isLimit(json.maximum) ? [`≤ ${json.maximum}`] : []),
  ];
  const type = json.type === 'array' ? 'list of text' : json.type === 'string' ? 'text' : String(json.type ?? 'any');
  return [type, ...range].join(' ');
}

function statesText(): string {
  const rows = Object.entries(STATES).map(([state, meaning]) => `| \`${state}\` | ${meaning} |`);
  return ['## States of a relationship\n', '| state | meaning |', '|---|---|', ...rows, ''].join('\n');
}

function errorsText(): string {
  const rows = Object.entries(CATALOGUE).map(
    ([code, { status, retry, hint }]) => `| \`${code}\` | ${status} | ${retry} | ${hint} |`,
  );
  return ['## Error codes\n', '| code | status | retry | cure |', '|---|---|---|---|', ...rows, ''].join('\n');
}
