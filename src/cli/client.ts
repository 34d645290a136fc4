/** The API as typed calls, over the daemon's unix socket. */
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { CONTRACT, type CallName, type Request, type Result, type StreamName } from '../api/contract.ts';
import { BASE_PATH, fieldPlaces, NOTHING, type Operation } from '../api/operation.ts';
import { Failure } from '../model/failure.ts';
import { readEventStream } from './event-stream.ts';

/** A stream gives a sign of life every 10 s; silent for this long (ms), the daemon is gone. */
const STREAM_SILENCE_MS = 35_000;

/** What connecting fails with: the request was never sent. */
const NOT_CONNECTED = new Set(['ENOENT', 'ECONNREFUSED', 'EACCES', 'EPERM', 'ENOTDIR', 'ENOTSOCK']);

/** The daemon of this host does not answer; nothing was done. */
export class DaemonUnreachable extends Failure {
  constructor(socketPath: string, cause: Error) {
    super('unreachable', `understudyd does not answer on ${socketPath}: ${cause.message}`, {
      cause,
      hint: 'Start understudyd (as root), or name its socket with --socket or UNDERSTUDY_SOCKET.',
    });
  }
}

export interface Client {
  /** Failures: `bad-request` before anything is sent, what the daemon answers, DaemonUnreachable. */
  call<N extends CallName>(name: N, request: Request<N>): Promise<Result<N>>;
  /** Items as they come; ends when the daemon ends the stream or the caller stops reading. Failures as `call`'s. */
  stream<N extends StreamName>(name: N, request: Request<N>): AsyncGenerator<Result<N>, void>;
}

/** Connects at each call. */
export function createClient(socketPath: string): Client {
  return {
    async call(name, request) {
      const of: Operation = CONTRACT[name];
      const response = await send(socketPath, of, checkRequest(of, request));
      const text = await readAll(response);
      return (of.result === NOTHING ? undefined : decode(of, JSON.parse(text))) as Result<typeof name>;
    },
    async *stream(name, request) {
      const of: Operation = CONTRACT[name];
      const response = await send(socketPath, of, checkRequest(of, request));
      response.setTimeout(STREAM_SILENCE_MS, () => {
        response.destroy(new Failure('timeout', `understudyd has been silent for ${STREAM_SILENCE_MS / 1000} s`));
      });
      try {
        for await (const item of readEventStream(response)) yield decode(of, item) as Result<typeof name>;
      } finally {
        response.destroy();
      }
    },
  };
}

function checkRequest(of: Operation, request: object): Record<string, unknown> {
  const checked = of.input.safeParse(request);
  if (checked.success) return checked.data;
  const issues = checked.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`);
  throw new Failure('bad-request', issues.join('; '), { hint: 'See the command with --help.' });
}

function decode(of: Operation, value: unknown): unknown {
  const decoded = of.result.safeParse(value);
  if (decoded.success) return decoded.data;
  throw new Failure('format-unknown', `understudyd gave an answer to ${of.path} that this CLI does not know`, {
    cause: decoded.error,
    hint: 'Use the CLI that was installed with the daemon.',
  });
}

function send(socketPath: string, of: Operation, input: Record<string, unknown>): Promise<IncomingMessage> {
  const { query, body } = fieldPlaces(of);
  const url = buildPath(of, input, query);
  const text = body.length === 0 ? undefined : JSON.stringify(pick(input, body));
  return new Promise((resolve, reject) => {
    const request = httpRequest({
      socketPath,
      method: of.method,
      path: url,
      headers: text === undefined ? {} : { 'content-type': 'application/json' },
    });
    request.once('error', (error: NodeJS.ErrnoException) => {
      reject(NOT_CONNECTED.has(error.code ?? '') ? new DaemonUnreachable(socketPath, error) : brokenOff(error));
    });
    request.once('response', (response) => {
      if ((response.statusCode ?? 500) < 400) resolve(response);
      else void readAll(response).then((answer) => reject(failureOf(response, answer)), reject);
    });
    request.end(text);
  });
}

function buildPath(of: Operation, input: Record<string, unknown>, query: readonly string[]): string {
  const path = of.path.replace(/:(\w+)/g, (_, name: string) => encodeURIComponent(String(input[name])));
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(pick(input, query))) search.set(name, String(value));
  return `${BASE_PATH}${path}${search.size === 0 ? '' : `?${search.toString()}`}`;
}

function pick(input: Record<string, unknown>, names: readonly string[]): Record<string, unknown> {
  return Object.fromEntries(names.filter((name) => input[name] !== undefined).map((name) => [name, input[name]]));
}

async function readAll(response: IncomingMessage): Promise<string> {
  let text = '';
  try {
    for await (const chunk of response.setEncoding('utf8')) text += chunk as string;
  } catch (error) {
    throw brokenOff(error);
  }
  return text;
}

function brokenOff(cause: unknown): Failure {
  return new Failure('interrupted', 'understudyd went away before it answered', {
    cause,
    hint: 'What was asked for may or may not have been done: see `understudy replication list` and `action list`.',
  });
}

function failureOf(response: IncomingMessage, text: string): Failure {
  try {
    return Failure.fromJson(JSON.parse(text) as { code: string; message: string; hint?: string });
  } catch (cause) {
    return new Failure('internal', `understudyd answered ${response.statusCode}: ${text.slice(0, 200)}`, { cause });
  }
}
