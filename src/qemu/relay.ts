/**
 * A relay: a qemu-storage-daemon that hands on the exports of an NBD server of ours, read-only, and outlives this process.
 * While that server is gone, whoever reads through the relay waits instead of failing. libvirt before 11.3 can't tell a guest's
 * QEMU to wait itself.
 */
import { chown, mkdir, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { run } from '../lib/process.ts';
import { Failure } from '../model/failure.ts';
import { endPredecessor, predecessorLives, recordProcess } from './predecessor.ts';

export interface Relay {
  /** Its own; made if it isn't there. The path stays below 90 bytes. */
  readonly directory: string;
  /** NBD socket of the server behind it, which serves when the relay is started. */
  readonly source: string;
  readonly exportNames: readonly string[];
  /** For so long a request waits for the server to come back before it fails; seconds. */
  readonly patienceSeconds: number;
  /** Who may connect besides root. */
  readonly owner?: { readonly uid: number; readonly gid: number };
}

const START_TIMEOUT_MS = 20_000;

export function relaySocket(directory: string): string {
  return join(directory, 'relay.nbd');
}

const pidFile = (directory: string): string => join(directory, 'relay.pid');

/** Starts the relay of a directory unless it runs. Failures: `missing-program`, `disk-engine` with its last words. */
export async function ensureRelay(relay: Relay): Promise<void> {
  const { directory, source, exportNames, patienceSeconds, owner } = relay;
  if (await predecessorLives(pidFile(directory))) return;
  await mkdir(directory, { recursive: true, mode: 0o711 });
  const socket = relaySocket(directory);
  const started = join(directory, 'started.pid');
  await rm(started, { force: true });
  const mark = `addr.type=unix,addr.path=${escaped(socket)}`;
  const args = exportNames.flatMap((name) => [
    '--blockdev',
    [
      `driver=nbd,node-name=${name},read-only=on`,
      `server.type=unix,server.path=${escaped(source)}`,
      `export=${name},reconnect-delay=${patienceSeconds}`,
    ].join(','),
    '--export',
    `type=nbd,id=${name},node-name=${name},name=${name},writable=off`,
  ]);
  const command = ['--daemonize', '--pidfile', started, '--nbd-server', mark, ...args];
  const { code, stderr } = await start(command);
  if (code !== 0) throw new Failure('disk-engine', `the relay in ${directory} can't be started: ${stderr.trim()}`);
  await recordProcess(pidFile(directory), Number(await readFile(started, 'utf8')), mark);
  if (owner !== undefined) await chown(socket, owner.uid, owner.gid);
}

/** Ends the relay of a directory and removes the directory. None is no error. */
export async function endRelay(directory: string): Promise<void> {
  await endPredecessor(pidFile(directory));
  await rm(directory, { recursive: true, force: true });
}

async function start(args: readonly string[]) {
  try {
    return await run('qemu-storage-daemon', args, { timeoutMs: START_TIMEOUT_MS });
  } catch (cause) {
    const hint = 'Install the Debian package qemu-system-common.';
    throw new Failure('missing-program', 'qemu-storage-daemon is not installed', { cause, hint });
  }
}

/** In QEMU's option syntax a comma is doubled. */
function escaped(path: string): string {
  return path.replaceAll(',', ',,');
}
