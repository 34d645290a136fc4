import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { type Server, type Socket, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, before, beforeEach, describe, test } from 'node:test';
import { Failure, type FailureCode } from '../../../model/failure.ts';
import { Connection, PROGRAM } from './connection.ts';
import { VirError } from './error.ts';
import { XdrReader, XdrWriter } from './xdr.ts';

interface Call {
  readonly program: number;
  readonly procedure: number;
  readonly serial: number;
  readonly body: Buffer;
}

/** What a libvirtd could do to us and a real one seldom does: late, mixed up, cut or nonsensical answers. */
describe('a connection to libvirt', () => {
  const directory = mkdtempSync(join(tmpdir(), 'us-rpc-'));
  const path = join(directory, 'sock');
  let server: Server;
  let peer: Socket;
  let calls: Call[];
  let onCall: (call: Call) => void;

  before(async () => {
    server = createServer((socket) => {
      peer = socket;
      let received = Buffer.alloc(0);
      socket.on('data', (chunk: Buffer) => {
        received = Buffer.concat([received, chunk]);
        while (received.length >= 4 && received.length >= received.readUInt32BE(0)) {
          const length = received.readUInt32BE(0);
          const reader = new XdrReader(received.subarray(4, length));
          const [program, , procedure, , serial] = Array.from({ length: 6 }, () => reader.uint()) as number[];
          const call = {
            program: program!,
            procedure: procedure!,
            serial: serial!,
            body: received.subarray(28, length),
          };
          received = received.subarray(length);
          calls.push(call);
          onCall(call);
        }
      });
    });
    await new Promise<void>((resolve) => server.listen(path, resolve));
  });
  beforeEach(() => {
    calls = [];
    onCall = () => undefined;
  });
  after(() => {
    server.close();
    rmSync(directory, { recursive: true });
  });

  const message = (program: number, procedure: number, type: number, serial: number, status: number, body: Buffer) =>
    Buffer.concat([
      new XdrWriter()
        .uint(28 + body.length)
        .uint(program)
        .uint(1)
        .int(procedure)
        .int(type)
        .uint(serial)
        .int(status)
        .finish(),
      body,
    ]);
  const reply = ({ procedure, serial }: Call, text: string) =>
    message(PROGRAM.remote, procedure, 1, serial, 0, new XdrWriter().string(text).finish());
  const ask = async (connection: Connection, procedure: number, timeoutMs = 5000) =>
    (await connection.call(procedure, `call${procedure}`, Buffer.alloc(0), timeoutMs)).string();
  const fails = (code: FailureCode) => (error: unknown) => error instanceof Failure && error.code === code;

  test('matches answers that come in another order, in pieces, with events in between', async () => {
    const connection = await Connection.open(path);
    onCall = () => {
      if (calls.length < 2) return;
      const event = message(PROGRAM.remote, 318, 2, 0, 0, Buffer.alloc(8));
      const all = Buffer.concat([reply(calls[1]!, 'second'), event, reply(calls[0]!, 'first')]);
      peer.write(all.subarray(0, 30), () => peer.write(all.subarray(30)));
    };
    assert.deepEqual(await Promise.all([ask(connection, 11), ask(connection, 12)]), ['first', 'second']);
    connection.close();
  });

  test("keeps libvirt's error number, domain and words", async () => {
    const connection = await Connection.open(path);
    onCall = ({ procedure, serial }) => {
      const body = new XdrWriter().int(42).int(10).optionalString('no domain').int(2).finish();
      peer.write(message(PROGRAM.remote, procedure, 1, serial, 1, body));
    };
    await assert.rejects(ask(connection, 24), (error) => {
      assert.ok(error instanceof Failure && error.cause instanceof VirError);
      assert.equal(error.code, 'not-found');
      assert.deepEqual([error.cause.code, error.cause.domain, error.cause.message], [42, 10, 'no domain']);
      return true;
    });
    connection.close();
  });

  test('a call that is not answered in time fails alone; its late answer is dropped', async () => {
    const connection = await Connection.open(path);
    await assert.rejects(ask(connection, 1, 20), fails('timeout'));
    onCall = (call) => {
      peer.write(reply(calls[0]!, 'late'));
      peer.write(reply(call, 'in time'));
    };
    assert.equal(await ask(connection, 2), 'in time');
    connection.close();
  });

  test('all calls under way fail when the other side goes away, and later ones at once', async () => {
    const connection = await Connection.open(path);
    onCall = () => {
      if (calls.length === 2) peer.destroy();
    };
    const both = await Promise.allSettled([ask(connection, 1), ask(connection, 2)]);
    for (const each of both) assert.ok(each.status === 'rejected' && fails('libvirt-down')(each.reason));
    assert.equal(connection.broken, true);
    await assert.rejects(ask(connection, 3), fails('libvirt-down'));
  });

  test('a message that cannot be is a broken peer', async () => {
    const connection = await Connection.open(path);
    onCall = () => peer.write(Buffer.from('ffffffff00000000', 'hex'));
    await assert.rejects(ask(connection, 1), fails('libvirt-down'));
    const other = await Connection.open(path);
    onCall = ({ procedure, serial }) => peer.write(message(PROGRAM.remote, procedure, 1, serial, 1, Buffer.alloc(2)));
    await assert.rejects(ask(other, 1), fails('libvirt-down'));
    assert.equal(other.broken, true);
  });

  test('answers keepalive pings', async () => {
    const connection = await Connection.open(path);
    onCall = (call) => {
      if (call.program !== PROGRAM.keepalive) peer.write(message(PROGRAM.keepalive, 1, 2, 0, 0, Buffer.alloc(0)));
      else if (call.procedure === 2) peer.write(reply(calls[0]!, 'alive'));
    };
    assert.equal(await ask(connection, 5), 'alive');
    connection.close();
  });

  test('says that nobody listens', async () => {
    await assert.rejects(Connection.open(join(directory, 'nobody')), fails('libvirt-down'));
  });
});
