import assert from 'node:assert/strict';
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, test } from 'node:test';
import { NbdClient } from './nbd/client.ts';
import { NbdServer } from './nbd/server.ts';
import { endRelay, ensureRelay, relaySocket, type Relay } from './relay.ts';

const SIZE = 1024 * 1024;

let top: string;
let relay: Relay;
let server: NbdServer;

/** A server whose one export is filled with a byte. */
async function serve(fill: number): Promise<NbdServer> {
  const listening = await NbdServer.listen({ socketPath: relay.source, mode: 0o600, onError: () => undefined });
  listening.addExport('vda', {
    size: SIZE,
    read: async (_, length) => await Promise.resolve({ parts: [Buffer.alloc(length, fill)] }),
    extents: async (offset, length) => await Promise.resolve([{ offset, length, hole: false, zero: false }]),
  });
  return listening;
}

const pid = (): number => (JSON.parse(readFileSync(join(relay.directory, 'relay.pid'), 'utf8')) as { pid: number }).pid;

/** Whether a process is there and no zombie, which nobody may have waited for. */
function runs(id: number): boolean {
  const path = `/proc/${id}/cmdline`;
  return existsSync(path) && readFileSync(path, 'utf8') !== '';
}

beforeEach(async () => {
  top = mkdtempSync(join(tmpdir(), 'us-relay-'));
  relay = { directory: join(top, 'r,1'), source: join(top, 'view'), exportNames: ['vda'], patienceSeconds: 60 };
  server = await serve(1);
});
afterEach(async () => {
  await endRelay(relay.directory);
  await server.close();
  rmSync(top, { recursive: true });
});

void test('who reads while the server behind it is gone waits until it is back', async () => {
  await ensureRelay(relay);
  const client = await NbdClient.connect({ socketPath: relaySocket(relay.directory), exportName: 'vda' });
  assert.equal((await client.read(0, 4096))[0], 1);
  await server.close();
  let ended = false;
  const read = client.read(8192, 4096).finally(() => (ended = true));
  assert.ok(!existsSync(relay.source));
  server = await serve(2);
  assert.ok(!ended, 'nothing has answered meanwhile');
  assert.equal((await read)[0], 2);
  await client.close();
});

void test('one that runs is found again; one that is ended leaves nothing', async () => {
  await ensureRelay(relay);
  const first = pid();
  await ensureRelay(relay);
  assert.equal(pid(), first);
  assert.ok(runs(first));
  await endRelay(relay.directory);
  assert.ok(!runs(first));
  assert.ok(!existsSync(relay.directory));
  await endRelay(relay.directory);
});

void test('one that cannot begin says why', async () => {
  await assert.rejects(ensureRelay({ ...relay, exportNames: ['vdz'] }), {
    code: 'disk-engine',
    message: /relay in .* can't be started: .*vdz/s,
  });
});
