/**
 * Runs on a lab host and asks another host's daemon, as this host, for everything that a peer may be asked about a relationship
 * that isn't this host's. Prints what comes of each call, as JSON.
 *   other-peer.ts OWN-NAME PEER-NAME ADDRESS RELATIONSHIP <PEER-CA.PEM
 */
import { text } from 'node:stream/consumers';
import { asFailure } from '../../src/model/failure.ts';
import type { ReplicaEndpoint } from '../../src/protocol/endpoint.ts';
import { HttpsEndpoint } from '../../src/protocol/https/client.ts';
import { openAuthority } from '../../src/security/authority.ts';
import { fingerprint } from '../../src/security/certificate.ts';

const [own, name, address, id] = process.argv.slice(2) as [string, string, string, string];
const caCertificate = await text(process.stdin);
const authority = await openAuthority('/var/lib/understudy/identity', { hostName: own, addresses: [] });
const peer = { name, address, caCertificate, caFingerprint: fingerprint(caCertificate) };
const endpoint = new HttpsEndpoint({ authority, peer });

const position = { epoch: 1, sequence: 1, state: '0'.repeat(32) };
const log = { sequence: 1, logId: '1'.repeat(32) };
const calls: Record<string, (peer: ReplicaEndpoint) => Promise<unknown>> = {
  status: (of) => of.status(id),
  durableOffset: (of) => of.durableOffset(id, log),
  put: (of) =>
    of.put(
      id,
      log,
      0,
      (async function* () {
        yield Buffer.alloc(1024);
      })(),
    ),
  confirm: (of) => of.confirm(id, position, Date.now()),
  digests: (of) => of.digests(id, { target: 'vda', from: 0, count: 1 }),
  pageDigests: (of) =>
    of.pageDigests!(id, { target: 'vda', position, salt: '2'.repeat(32), runs: [{ offset: 0, length: 4096 }] }),
  takeOver: (of) => of.takeOver(id, { planId: crypto.randomUUID(), epoch: 2, position, start: true }),
  prepare: (of) =>
    of.prepare({
      id,
      vmId: crypto.randomUUID(),
      vmName: 'taken',
      definition: '<domain/>',
      disks: [{ target: 'vda', size: 1024 * 1024 }],
      epoch: 9,
      intervalSeconds: 5,
      history: 1,
      base: 'continue',
    }),
  remove: (of) => of.remove(id, { keepDisks: false }),
};
const outcomes: Record<string, string> = {};
for (const [call, ask] of Object.entries(calls)) {
  outcomes[call] = await ask(endpoint).then(
    () => 'done',
    (error: unknown) => asFailure(error).code,
  );
}
await endpoint.close();
console.log(JSON.stringify(outcomes));
