/**
 * A host of the next version of the wire, as its peers meet it: the identity and the address of an understudyd that is
 * stopped, and a server that speaks wire 2 only. Usage: peer-of-wire-2.ts STATE-DIRECTORY HOST-NAME PORT; says `ready`.
 */
import { join } from 'node:path';
import { peerBook } from '../../src/daemon/peers.ts';
import { silentLog } from '../../src/lib/log.ts';
import { Failure } from '../../src/model/failure.ts';
import { PeerServer } from '../../src/protocol/https/server.ts';
import { openAuthority } from '../../src/security/authority.ts';
import { Enrolment } from '../../src/security/enrolment.ts';
import { SqliteStore } from '../../src/store/sqlite/store.ts';

const [stateDirectory = '', hostName = '', port = ''] = process.argv.slice(2);
const authority = await openAuthority(join(stateDirectory, 'identity'), { hostName, addresses: [] });
const peers = peerBook(SqliteStore.open(join(stateDirectory, 'understudy.sqlite')));
const enrolment = new Enrolment({ authority, address: `${hostName}:${port}`, peers });
const endpoint = (): never => {
  throw new Failure('internal', 'a request of wire 1 came through');
};
const options = { authority, peers, enrolment, endpoint, log: silentLog(), version: '2.0.0', wires: [2] };
await PeerServer.listen({ host: '::', port: Number(port), ...options });
console.log('ready');
