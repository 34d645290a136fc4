/** An NBD export of a qcow2 that a peer writes to: unix socket, TCP, or TCP with TLS 1.3 (GnuTLS, pre-shared key). */
import { randomBytes } from 'node:crypto';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createImage } from '../../src/qemu/image.ts';
import { StorageDaemon } from '../../src/qemu/storage-daemon.ts';
import { freePort } from '../rig/daemon.ts';
import type { Place } from '../rig/place.ts';

export type Transport = 'unix' | 'tcp' | 'tls';

export const EXPORT = 'target';
const KEY_USER = 'bench';

export class QemuTarget {
  readonly daemon: StorageDaemon;
  readonly transport: Transport;
  readonly port: number;
  readonly path: string;
  /** Directory of the key that clients need. */
  readonly keys: string;

  private constructor(parts: {
    daemon: StorageDaemon;
    transport: Transport;
    port: number;
    path: string;
    keys: string;
  }) {
    this.daemon = parts.daemon;
    this.transport = parts.transport;
    this.port = parts.port;
    this.path = parts.path;
    this.keys = parts.keys;
  }

  static async open(place: Place, name: string, diskBytes: number, transport: Transport): Promise<QemuTarget> {
    const directory = join(place.data, name);
    const keys = join(directory, 'keys');
    mkdirSync(keys, { recursive: true, mode: 0o700 });
    writeFileSync(join(keys, 'keys.psk'), `${KEY_USER}:${randomBytes(32).toString('hex')}\n`, { mode: 0o600 });
    const path = join(directory, 'target.qcow2');
    await createImage(path, diskBytes, { format: 'qcow2' });
    const daemon = await StorageDaemon.start({ directory: join(place.run, name), name: 't' });
    const port = await freePort();
    const target = new QemuTarget({ daemon, transport, port, path, keys });
    if (transport !== 'unix') {
      const { qmp } = daemon;
      const tls = transport === 'tls' ? { 'tls-creds': 'tls' } : {};
      if (transport === 'tls') await qmp.execute('object-add', credentials('server', keys));
      await qmp.execute('nbd-server-stop');
      const addr = { type: 'inet', data: { host: '127.0.0.1', port: String(port) } };
      await qmp.execute('nbd-server-start', { addr, ...tls });
    }
    await target.#show();
    return target;
  }

  /** An empty image in place of the present one. */
  async renew(diskBytes: number): Promise<void> {
    await this.daemon.closeExport(EXPORT);
    await this.daemon.closeNode('disk');
    rmSync(this.path);
    await createImage(this.path, diskBytes, { format: 'qcow2' });
    await this.#show();
  }

  /** As a client of QEMU names it, in `blockdev-add`. */
  clientNode(): Record<string, unknown> {
    const { transport, port, daemon } = this;
    const server =
      transport === 'unix'
        ? { type: 'unix', path: daemon.nbdSocket }
        : { type: 'inet', host: '127.0.0.1', port: String(port) };
    const tls = transport === 'tls' ? { 'tls-creds': 'tls' } : {};
    return { driver: 'nbd', server, export: EXPORT, ...tls };
  }

  async close(): Promise<void> {
    await this.daemon.stop();
  }

  async #show(): Promise<void> {
    await this.daemon.openImage({ node: 'disk', path: this.path, format: 'qcow2', readOnly: false, backing: null });
    await this.daemon.exportNode({ node: 'disk', exportName: EXPORT, writable: true });
  }
}

/** Arguments of `object-add`. */
export function credentials(endpoint: 'server' | 'client', keys: string): Record<string, unknown> {
  const user = endpoint === 'client' ? { username: KEY_USER } : {};
  return { 'qom-type': 'tls-creds-psk', id: 'tls', endpoint, dir: keys, ...user };
}
