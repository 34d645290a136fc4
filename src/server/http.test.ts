import assert from 'node:assert/strict';
import { once } from 'node:events';
import { linkSync, mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { request as httpRequest, type IncomingMessage } from 'node:http';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, test } from 'node:test';
import { pino } from 'pino';
import { createMemoryWorld, type MemoryWorld } from '../api/testing/memory-operations.ts';
import { until } from '../lib/clock.ts';
import { silentLog } from '../lib/log.ts';
import { CATALOGUE, type FailureJson } from '../model/failure.ts';
import { serveApi, type ApiServer } from './http.ts';

let directory: string;
let socketPath: string;
let world: MemoryWorld;
let server: ApiServer | undefined;

beforeEach(async () => {
  directory = mkdtempSync(join(tmpdir(), 'us-api-'));
  socketPath = join(directory, 'run', 'api.sock');
  world = createMemoryWorld();
  server = await serveApi({ socketPath, operations: world.operations, log: silentLog() });
});

afterEach(async () => {
  await server?.close();
  server = undefined;
  rmSync(directory, { recursive: true, force: true });
});

async function open(method: string, path: string, body?: string): Promise<IncomingMessage> {
  const request = httpRequest({
    socketPath,
    method,
    path: `/api/v0${path}`,
    headers: body === undefined ? {} : { 'content-type': 'application/json' },
  });
  request.end(body);
  return ((await once(request, 'response')) as [IncomingMessage])[0];
}

async function ask(method: string, path: string, body?: unknown): Promise<{ status: number; body: unknown }> {
  const response = await open(
    method,
    path,
    typeof body === 'string' || body === undefined ? body : JSON.stringify(body),
  );
  let text = '';
  for await (const chunk of response.setEncoding('utf8')) text += chunk as string;
  assert.ok(response.headers['x-request-id'], 'every answer has a request id');
  return { status: response.statusCode!, body: text === '' ? undefined : JSON.parse(text) };
}

async function refused(
  code: keyof typeof CATALOGUE,
  answer: Promise<{ status: number; body: unknown }>,
): Promise<FailureJson> {
  const { status, body } = await answer;
  const failure = body as FailureJson;
  assert.deepEqual(Object.keys(failure).toSorted(), ['code', 'hint', 'message', 'retry']);
  assert.equal(failure.code, code, failure.message);
  assert.equal(status, CATALOGUE[code].status);
  assert.ok(failure.hint.length > 0);
  return failure;
}

void describe('answers', () => {
  void test('a resource, a list, nothing', async () => {
    const status = await ask('GET', '/status');
    assert.equal(status.status, 200);
    assert.equal((status.body as { name: string }).name, 'host-a');
    assert.equal(((await ask('GET', '/vms')).body as unknown[]).length, 3);
    assert.deepEqual(await ask('DELETE', '/peers/host-b'), { status: 204, body: undefined });
  });

  void test('defaults of the contract are filled in, path and body become one input', async () => {
    const { body } = await ask('POST', '/replications', { vm: 'db01', peer: 'host-b' });
    const { intervalSeconds, history } = body as { intervalSeconds: number; history: number };
    assert.deepEqual({ intervalSeconds, history }, { intervalSeconds: 300, history: 24 });
    const changed = await ask('PATCH', '/replications/db01', { intervalSeconds: 30 });
    assert.equal((changed.body as { intervalSeconds: number }).intervalSeconds, 30);
  });

  void test('numbers and truth values are read from paths and queries', async () => {
    for (let index = 0; index < 3; index++) world.addEvent(`event ${index}`);
    assert.equal(((await ask('GET', '/events?limit=2')).body as unknown[]).length, 2);
    assert.equal((await ask('POST', '/replications/r1/points/40/export', { disk: 'vda', file: '/tmp/x' })).status, 200);
    assert.equal((await ask('DELETE', '/replications/r1?keepDisks=true')).status, 204);
  });

  void test('only what the contract knows goes out', async () => {
    world.replications = [{ ...world.replications[0]!, definition: '<secret/>' } as (typeof world.replications)[0]];
    const { body } = await ask('GET', '/replications/web01');
    assert.equal((body as { id: string }).id, 'r1');
    assert.ok(!JSON.stringify(body).includes('secret'));
  });
});

void describe('refusals', () => {
  void test('a wrong field is named', async () => {
    const failure = await refused(
      'bad-request',
      ask('POST', '/replications', { vm: 'db01', peer: 'b', intervalSeconds: 4 }),
    );
    assert.match(failure.message, /^intervalSeconds: /);
    await refused('bad-request', ask('GET', '/events?limit=many'));
  });

  void test('an unknown field is refused, not ignored', async () => {
    const failure = await refused('bad-request', ask('POST', '/replications', { vm: 'db01', peer: 'b', exclude: [] }));
    assert.match(failure.message, /exclude/);
    await refused('bad-request', ask('GET', '/vms?all=1'));
    await refused('bad-request', ask('POST', '/replications/r1/suspend?force=1'));
  });

  void test('a body that is not a JSON object', async () => {
    await refused('bad-request', ask('POST', '/replications', '{'));
    await refused('bad-request', ask('POST', '/replications', '[]'));
    await refused('bad-request', ask('POST', '/replications', ''));
  });

  void test('a body that is too large, before it is read', async () => {
    const headers = { 'content-type': 'application/json', 'content-length': 2 ** 21 };
    const request = httpRequest({ socketPath, method: 'POST', path: '/api/v0/peers', headers });
    request.flushHeaders();
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    assert.equal(response.statusCode, 400);
    request.destroy();
  });

  void test('a failure of the operation keeps its code', async () => {
    assert.match((await refused('not-found', ask('GET', '/replications/nope'))).message, /"nope"/);
    await refused('token-invalid', ask('POST', '/peers', { token: 'WRONG' }));
    await refused('vm-running', ask('POST', '/replications/r1/failover/unplanned', {}));
  });

  void test('an unexpected error is internal', async () => {
    await refused('internal', ask('POST', '/replications', { vm: 'internal', peer: 'b' }));
  });

  void test('an answer that breaks the contract is internal', async () => {
    world.replications = [{ ...world.replications[0]!, lagMs: 'long' as unknown as number }];
    await refused('internal', ask('GET', '/replications/web01'));
  });

  void test('a name may be long and hold anything', async () => {
    const name = 'Büro/вм #1 ?'.repeat(30);
    const { message } = await refused('not-found', ask('GET', `/replications/${encodeURIComponent(name)}`));
    assert.ok(message.includes(`"${name}"`));
  });

  void test('the log names the request that an answer names', async () => {
    const lines: string[] = [];
    const log = pino({ level: 'info' }, { write: (line: string) => lines.push(line) });
    const logged = await serveApi({ socketPath: join(directory, 'logged.sock'), operations: world.operations, log });
    const request = httpRequest({ socketPath: logged.socketPath, path: '/api/v0/replications/nope' });
    request.end();
    const [response] = (await once(request, 'response')) as [IncomingMessage];
    response.resume();
    await logged.close();
    const line = lines
      .map((text) => JSON.parse(text) as Record<string, unknown>)
      .find(({ code }) => code === 'not-found');
    assert.ok(line);
    assert.equal(line['reqId'], response.headers['x-request-id']);
  });

  void test('an unknown path or method', async () => {
    assert.match((await refused('not-found', ask('GET', '/nope'))).message, /GET \/api\/v0\/nope/);
    await refused('not-found', ask('PUT', '/vms'));
  });
});

void describe('streams', () => {
  void test('items arrive as they happen, and the source is told when the reader goes', async () => {
    const response = await open('GET', '/streams/events');
    assert.equal(response.headers['content-type'], 'text/event-stream');
    let text = '';
    response.setEncoding('utf8').on('data', (chunk: string) => (text += chunk));
    const seen = (what: string): Promise<void> =>
      until(() => text.includes(what), { timeoutMs: 5000, everyMs: 5, onTimeout: () => new Error(`not in ${text}`) });
    await seen(': stream');
    await until(() => world.openStreams === 1, { timeoutMs: 5000, everyMs: 5, onTimeout: () => new Error('not open') });
    world.addEvent('first');
    await seen('event: item\ndata: {"id":0');
    response.destroy();
    await until(() => world.openStreams === 0, {
      timeoutMs: 5000,
      everyMs: 5,
      onTimeout: () => new Error('left open'),
    });
  });

  void test('what cannot begin is a status', async () => {
    await refused('not-found', ask('GET', '/streams/actions/nope'));
  });

  void test('a stream that ends says so', async () => {
    const { body } = await ask('POST', '/replications/r1/failover/test', {});
    const response = await open('GET', `/streams/actions/${(body as { id: string }).id}`);
    let text = '';
    for await (const chunk of response.setEncoding('utf8')) text += chunk as string;
    assert.match(text, /event: item\ndata: .*"state":"done".*\n\nevent: end\n/);
  });

  void test('a stream that breaks says why', async () => {
    world.replications = [world.replications[0]!, { ...world.replications[0]!, lagMs: 'x' as unknown as number }];
    const response = await open('GET', '/streams/replications');
    let text = '';
    for await (const chunk of response.setEncoding('utf8')) text += chunk as string;
    assert.match(text, /event: failure\ndata: {"code":"internal"/);
  });
});

void describe('the socket', () => {
  void test('is for its owner alone, in a directory that anybody may enter', () => {
    assert.equal(statSync(socketPath).mode & 0o777, 0o600);
    assert.equal(statSync(join(directory, 'run')).mode & 0o777, 0o755);
  });

  void test('closing ends streams and removes it', async () => {
    const response = await open('GET', '/streams/replications');
    const ended = once(response.resume(), 'close');
    await server!.close();
    await ended;
    assert.throws(() => statSync(socketPath), { code: 'ENOENT' });
    server = undefined;
  });

  void test('closing waits for an answer under way', async () => {
    const { promise, resolve } = Promise.withResolvers<void>();
    const slow = join(directory, 'slow.sock');
    const began = Promise.withResolvers<void>();
    const second = await serveApi({
      socketPath: slow,
      log: silentLog(),
      operations: {
        ...world.operations,
        vmList: async () => {
          began.resolve();
          await promise;
          return [];
        },
      },
    });
    const request = httpRequest({ socketPath: slow, path: '/api/v0/vms' });
    const answered = once(request, 'response') as Promise<[IncomingMessage]>;
    request.end();
    await began.promise;
    const closed = second.close();
    resolve();
    const [response] = await answered;
    assert.equal(response.statusCode, 200);
    response.resume();
    await closed;
  });

  void test('one that somebody listens on is left alone', async () => {
    await assert.rejects(serveApi({ socketPath, operations: world.operations, log: silentLog() }), {
      code: 'already-exists',
      message: /Another understudyd/,
    });
    assert.equal((await ask('GET', '/status')).status, 200);
  });

  void test('a stale one, as a killed daemon leaves it, is replaced', async () => {
    const stale = join(directory, 'stale.sock');
    const killed = createServer().listen(stale);
    await once(killed, 'listening');
    // Node removes the socket when it closes; a name of the same inode stays, as after a kill.
    const kept = join(directory, 'kept.sock');
    linkSync(stale, kept);
    killed.close();
    await once(killed, 'close');
    assert.ok(statSync(kept).isSocket());
    const second = await serveApi({ socketPath: kept, operations: world.operations, log: silentLog() });
    await second.close();
  });

  void test('a file in its place is never removed', async () => {
    const file = join(directory, 'precious');
    writeFileSync(file, 'x');
    await assert.rejects(serveApi({ socketPath: file, operations: world.operations, log: silentLog() }), {
      code: 'already-exists',
    });
    assert.equal(statSync(file).size, 1);
  });

  void test('a path too long for a socket is refused by name', async () => {
    const long = join(directory, 'x'.repeat(120));
    await assert.rejects(serveApi({ socketPath: long, operations: world.operations, log: silentLog() }), {
      code: 'bad-config',
    });
  });
});
