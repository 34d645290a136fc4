/** The REST API on a unix socket: routes, validation and errors, all from the contract. */
import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import {
  fastify,
  LogController,
  type FastifyBaseLogger,
  type FastifyInstance,
  type FastifyReply,
  type FastifyRequest,
} from 'fastify';
import { allOperations, encodeResult, type Call, type OperationName, type Operations } from '../api/contract.ts';
import { BASE_PATH, successStatus, type Operation } from '../api/operation.ts';
import type { Log } from '../lib/log.ts';
import { asFailure, Failure } from '../model/failure.ts';
import { eventStream } from './event-stream.ts';
import { inputReader } from './request.ts';
import { clearSocketPath } from './socket.ts';

/** Largest request body in bytes. */
const MAX_BODY = 1024 * 1024;
/** Longest part of a path in characters: names of VMs may be long. */
const MAX_PARAMETER = 1024;

export interface ApiServer {
  readonly socketPath: string;
  /** Takes no further requests, ends streams, waits for requests under way, removes the socket. */
  close(): Promise<void>;
}

type Handler = (input: unknown, call: Call) => Promise<unknown>;

/**
 * Serves the API at `socketPath` (0600: whoever may open it may do everything). Failures: as `clearSocketPath`'s.
 */
export async function serveApi(options: {
  readonly socketPath: string;
  readonly operations: Operations;
  readonly log: Log;
}): Promise<ApiServer> {
  const closing = new AbortController();
  const app: FastifyInstance = fastify({
    loggerInstance: options.log as FastifyBaseLogger,
    logController: new LogController({ disableRequestLogging: true }), // ours says which operation it was
    requestIdHeader: false,
    genReqId: () => randomBytes(6).toString('hex'),
    bodyLimit: MAX_BODY,
    routerOptions: { maxParamLength: MAX_PARAMETER },
    forceCloseConnections: 'idle',
    return503OnClosing: false,
  });
  acceptEmptyJson(app);
  app.setErrorHandler(answerFailure);
  app.setNotFoundHandler((request) => {
    throw new Failure('not-found', `There is no ${request.method} ${request.url.split('?')[0]}`, {
      hint: `Operations are below ${BASE_PATH}; docs/rest.md lists them.`,
    });
  });
  for (const [name, of] of allOperations()) addRoute(app, name, of, options.operations, closing.signal);

  await clearSocketPath(options.socketPath);
  await app.ready();
  await listenPrivately(app, options.socketPath);
  options.log.info({ socket: options.socketPath }, 'API is served');
  return {
    socketPath: options.socketPath,
    close: async () => {
      closing.abort(new Error('the API server closes'));
      await app.close();
    },
  };
}

function addRoute(
  app: FastifyInstance,
  name: OperationName,
  of: Operation,
  operations: Operations,
  closing: AbortSignal,
): void {
  const read = inputReader(of);
  const handle = operations[name].bind(operations) as Handler;
  app.route({
    method: of.method,
    url: BASE_PATH + of.path,
    handler: async (request, reply) => {
      const input = read({ params: request.params, query: request.query, body: request.body });
      const signal = AbortSignal.any([closing, goneSignal(reply)]);
      void reply.header('x-request-id', request.id);
      const began = performance.now();
      const answer = await handle(input, { signal });
      const ms = Math.round(performance.now() - began);
      request.log[of.method === 'GET' ? 'debug' : 'info']({ operation: name, ms }, 'answered');
      if (of.stream) {
        const items = checked(of, answer as AsyncIterable<unknown>);
        return reply
          .header('content-type', 'text/event-stream')
          .header('cache-control', 'no-store')
          .header('connection', 'close') // kept alive it would hold up closing
          .send(Readable.from(eventStream(items, signal), { objectMode: false }));
      }
      return reply.code(successStatus(of)).send(encodeResult(of, answer));
    },
  });
}

async function* checked(of: Operation, items: AsyncIterable<unknown>): AsyncGenerator<unknown> {
  for await (const item of items) yield encodeResult(of, item);
}

/** Aborts when the connection of an unfinished answer is gone. */
function goneSignal(reply: FastifyReply): AbortSignal {
  const gone = new AbortController();
  reply.raw.once('close', () => {
    if (!reply.raw.writableFinished) gone.abort(new Error('the caller has gone'));
  });
  return gone.signal;
}

function answerFailure(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const failure = toFailure(error);
  if (failure.code === 'internal') request.log.error({ err: error }, failure.message);
  else request.log.info({ code: failure.code }, failure.message);
  void reply.header('x-request-id', request.id).code(failure.status).send(failure.toJSON());
}

/** fastify's own errors about a request (bad JSON, too large a body) are the caller's. */
function toFailure(error: unknown): Failure {
  const status = (error as { statusCode?: number }).statusCode;
  if (!(error instanceof Failure) && error instanceof Error && status !== undefined && status < 500) {
    return new Failure('bad-request', error.message, { cause: error });
  }
  return asFailure(error);
}

/** A POST without fields may come with a JSON content type and no body, as some clients do. */
function acceptEmptyJson(app: FastifyInstance): void {
  app.addContentTypeParser('application/json', { parseAs: 'string' }, (_request, text, done) => {
    if (text === '') return done(null, undefined);
    try {
      done(null, JSON.parse(text as string));
    } catch (error) {
      done(new Failure('bad-request', `The body is not JSON: ${(error as Error).message}`), undefined);
    }
  });
}

/** The socket must never be open to others, not even between its creation and a chmod: the mask makes it 0600. */
function listenPrivately(app: FastifyInstance, path: string): Promise<void> {
  return new Promise((resolve, reject) => {
    app.server.once('error', reject);
    app.server.once('listening', () => {
      app.server.off('error', reject);
      resolve();
    });
    const mask = process.umask(0o177);
    try {
      app.server.listen(path); // binds before it returns
    } finally {
      process.umask(mask);
    }
  });
}
