import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Lanes } from '../../src/lanes/lanes.ts';
import { silentLog } from '../../src/lib/log.ts';
import type { ReplicaEndpoint, ReplicaStatus, TakeOver } from '../../src/protocol/endpoint.ts';
import { HttpsEndpoint } from '../../src/protocol/https/client.ts';
import { Loopback } from '../../src/protocol/https/loopback.fixture.ts';
import { Pace } from '../../src/protocol/https/pace.ts';
import { LocalEndpoint } from '../../src/replica/endpoint.ts';
import { Replicas } from '../../src/replica/replicas.ts';
import { START } from '../faults/replica-primary.ts';
import { runEndpointConformance, type EndpointUnderTest } from './endpoint.ts';

/** Enough for any number of connections. */
const MANY_BYTES = 2 ** 30;

async function makeLocal(): Promise<EndpointUnderTest> {
  const directory = await mkdtemp(join(tmpdir(), 'us-e-'));
  const lanes = new Lanes();
  const replicas = await Replicas.open({
    directory: join(directory, 'replicas'),
    runDirectory: join(directory, 'run'),
    lanes,
    log: silentLog(),
  });
  const takeOvers: TakeOver[] = [];
  const removed: string[] = [];
  let primaryEpoch: number | null = null;
  const asPrimary = (id: string, epoch: number): ReplicaStatus => {
    const position = { ...START, epoch };
    return { id, role: 'primary', state: 'Replicating', epoch, received: position, applied: position, vmRunning: true };
  };
  const endpoint = new LocalEndpoint(replicas, {
    primaryStatus: (id) => (primaryEpoch === null ? undefined : asPrimary(id, primaryEpoch)),
    adoptDisks: () => Promise.resolve(undefined),
    prepared: () => Promise.resolve(),
    takeOver: (id, request) => {
      takeOvers.push(request);
      return Promise.resolve(asPrimary(id, request.epoch));
    },
    removed: (id) => {
      removed.push(id);
      return Promise.resolve();
    },
    stateOf: () => 'Replicating',
    vmRunning: () => Promise.resolve(false),
  });
  return {
    endpoint,
    becomePrimary: (epoch) => (primaryEpoch = epoch),
    takeOvers,
    removed,
    close: async () => {
      await replicas.close();
      await lanes.close();
      await rm(directory, { recursive: true });
    },
  };
}

/** The same behind a real server, on loopback, by mutual TLS. */
async function makeHttps(): Promise<EndpointUnderTest> {
  const local = await makeLocal();
  const loopback = new Loopback();
  const [a, b] = await loopback.pair();
  const behind: ReplicaEndpoint = {
    prepare: (request) => local.endpoint.prepare(request),
    status: (id) => local.endpoint.status(id),
    durableOffset: (id, log) => local.endpoint.durableOffset(id, log),
    put: (id, log, offset, body, signal) => local.endpoint.put(id, log, offset, body, signal),
    confirm: (id, position, instant) => local.endpoint.confirm(id, position, instant),
    digests: (id, question) => local.endpoint.digests(id, question),
    pageDigests: (id, question, signal) => local.endpoint.pageDigests!(id, question, signal),
    verify: (id, question, signal) => local.endpoint.verify!(id, question, signal),
    takeOver: (id, request) => local.endpoint.takeOver(id, request),
    remove: (id, options) => local.endpoint.remove(id, options),
  };
  Object.assign(b.replica, behind);
  return {
    ...local,
    endpoint: a.to(b),
    close: async () => {
      await loopback.close();
      await local.close();
    },
  };
}

/** The same, with logs that are sent as on a long way. */
async function makeStranded(): Promise<EndpointUnderTest> {
  const https = await makeHttps();
  const { endpoint } = https;
  if (!(endpoint instanceof HttpsEndpoint)) throw new Error('it is no client');
  const put: ReplicaEndpoint['put'] = (id, log, offset, body, signal = new AbortController().signal) =>
    endpoint.putByStrands(id, log, offset, body, { pace: new Pace(4, MANY_BYTES), tickMs: 50, signal });
  return { ...https, endpoint: Object.assign(endpoint, { put }) };
}

runEndpointConformance('in this process', makeLocal);
runEndpointConformance('over HTTPS', makeHttps);
runEndpointConformance('over HTTPS, by several connections', makeStranded);
