/**
 * Puts the daemon together and takes it apart. The order matters and is said where it does; nothing else knows how to
 * make these parts.
 */
import { join } from 'node:path';
import type { Operations } from '../api/contract.ts';
import { cancelFailover } from '../failover/cancel.ts';
import { completeFailover } from '../failover/complete.ts';
import { LOCK_NAME } from '../failover/definition.ts';
import { newLeases } from '../failover/lease.ts';
import { exportPoint } from '../failover/export.ts';
import { plannedFailover } from '../failover/planned.ts';
import { trackRawDisk, untrackRawDisk } from '../failover/raw-disk.ts';
import { removeReplication } from '../failover/remove.ts';
import { reverseReplication } from '../failover/reverse.ts';
import type { FailoverServices } from '../failover/services.ts';
import { takeOver } from '../failover/take-over.ts';
import { testFailoverStart, testFailoverStop } from '../failover/test.ts';
import { TestViews } from '../failover/test-views.ts';
import { unplannedFailover } from '../failover/unplanned.ts';
import { Journal } from '../journal/journal.ts';
import { Lanes } from '../lanes/lanes.ts';
import { makeDirectory } from '../lib/atomic-file.ts';
import { HOST_CLOCKS } from '../lib/boot-clock.ts';
import type { Log } from '../lib/log.ts';
import { roomAt } from '../lib/room.ts';
import { LEVELS } from '../model/compression.ts';
import { asFailure } from '../model/failure.ts';
import { tooOld, untried } from '../model/versions.ts';
import { runsHere } from '../model/role.ts';
import { Turns } from '../lib/turns.ts';
import { VERSION } from '../lib/version.ts';
import { KnownBlocks } from '../primary/known-blocks.ts';
import { Outbox } from '../primary/outbox.ts';
import { POINT_LIMITS } from '../primary/open-point.ts';
import { Primaries } from '../primary/primaries.ts';
import { PeerServer } from '../protocol/https/server.ts';
import { Replicas } from '../replica/replicas.ts';
import { Scrubbing } from '../replica/scrubbing.ts';
import { openAuthority } from '../security/authority.ts';
import { Enrolment } from '../security/enrolment.ts';
import { serveApi } from '../server/http.ts';
import { Actions } from './actions.ts';
import type { Config } from './config/read.ts';
import { Contact } from './contact.ts';
import { Definitions, noteLacking } from './definitions.ts';
import { EventFeed } from './event-feed.ts';
import { openHypervisor } from './hypervisor.ts';
import { doctorOperations } from './operations/doctor.ts';
import { driftOperations } from './operations/drift.ts';
import { failoverOperations } from './operations/failovers.ts';
import { hostOperations } from './operations/host.ts';
import { peerOperations } from './operations/peers.ts';
import { proofOperations } from './operations/proofs.ts';
import { neighbourOperations } from './operations/neighbours.ts';
import { rawDiskOperations } from './operations/raw-disks.ts';
import { replicationOperations, viewOf } from './operations/replications.ts';
import { streamOperations } from './operations/streams.ts';
import { keepGuard } from './lease-guard.ts';
import { LeaseKeeper } from './lease-keeper.ts';
import { openStore } from './open-store.ts';
import { PeerClocks, type PeerClocksOptions } from './peer-clocks.ts';
import { peerBook, PeerEndpoints } from './peers.ts';
import { endpointFor } from './replica-host.ts';
import { RawDiskRounds } from './raw-disks.ts';
import { rescanIfForgotten } from './rescan.ts';
import { PrimaryNotes } from './primary-notes.ts';
import { noteShape } from './replica-shape.ts';
import { mendStore } from './restored-store.ts';
import { resumeTests } from './resume-tests.ts';
import { Roles } from './roles.ts';
import { Rounds } from './rounds.ts';
import type { DaemonServices } from './services.ts';

const DAY_SECONDS = 24 * 60 * 60;
/** How soon a VM is seen off whose raw disk waits for that. */
const RAW_DISKS_MS = 1000;
const RENEWAL_CHECK_MS = 60 * 60 * 1000;

const PLANS = [
  testFailoverStart,
  testFailoverStop,
  unplannedFailover,
  cancelFailover,
  completeFailover,
  plannedFailover,
  takeOver,
  reverseReplication,
  exportPoint,
  removeReplication,
  trackRawDisk,
  untrackRawDisk,
];

export interface Daemon {
  /** Ends everything that is ours in an orderly way; what was under way is taken up at the next start. VMs go on. */
  close(): Promise<void>;
}

/** Resolves when the daemon serves. Failures: `bad-config`, `io`, `missing-program`, … */
export async function startDaemon(config: Config, log: Log): Promise<Daemon> {
  await makeDirectories(config);
  const notes = new PrimaryNotes(join(config.stateDirectory, 'primaries'));
  const { store, putAside } = await openStore(join(config.stateDirectory, 'understudy.sqlite'), Date.now(), notes);
  const authority = await openAuthority(join(config.stateDirectory, 'identity'), {
    hostName: config.name,
    addresses: [],
  });
  const peers = peerBook(store);
  const enrolment = new Enrolment({ authority, address: config.advertise, peers });
  // Of their own: a lane that packs would keep the network waiting.
  const senders = new Lanes();
  const endpoints = new PeerEndpoints(authority, senders, peers, (name) => services.primaries.wake(name));
  const events = new EventFeed(store, log);
  if (putAside !== undefined) {
    const text = `the state database was damaged: it is kept as ${putAside}, what this host remembers begins anew`;
    events.add(null, 'critical', 'state-database-damaged', text);
  }
  const machine = await openHypervisor(config, log);
  const { hypervisor } = machine;
  const lanes = new Lanes();
  const points = new Turns(config.openPoints);
  const replicas = await Replicas.open({
    directory: config.replicaDirectory,
    runDirectory: join(config.runDirectory, 'replicas'),
    lanes,
    ...(config.compression === 'none' ? { undoLevel: LEVELS.plain } : {}),
    room: { reserveBytes: config.replica.reserve, whenFull: config.replica.whenFull },
    onReshaped: (id, disks) => noteShape(store, id, disks),
    onGivenUp: (id, sequence) =>
      events.add(id, 'warning', 'point-given-up', `recovery point ${sequence} was given up: the file system is full`),
    log,
    onDamage: (id, text) => events.add(id, 'critical', 'replica-damaged', text),
  });
  const services: FailoverServices = {
    hypervisor,
    store,
    replicas,
    primaries: new Primaries({ store, services: primaryServices, onRoleLost: (id) => roles.roleLost(id) }),
    testViews: new TestViews(replicas, hypervisor, join(config.runDirectory, 'tests')),
    peer: (name) => endpoints.get(name),
    replicaDirectory: (id) => join(config.replicaDirectory, id),
    lockDirectory: join(config.stateDirectory, LOCK_NAME),
    leases: newLeases(join(config.runDirectory, 'leases')),
    ...HOST_CLOCKS,
    event: (relationship, severity, kind, message) => events.add(relationship, severity, kind, message),
  };
  const { runDirectory, startPolicy, startPolicyMinutes } = config;
  await services.testViews.disconnect();
  const journal = await Journal.open(join(config.stateDirectory, 'journal'));
  const inAction = (id: string) => journal.holder(id) !== undefined;
  const roles = new Roles({ services, log, runDirectory, startPolicy, startPolicyMinutes, inAction });
  const actions = new Actions({ journal, definitions: PLANS, context: services, log, event: services.event });

  const scrubbing = new Scrubbing({ replicas, passSeconds: config.scrub.passDays * DAY_SECONDS, now: Date.now, log });
  const measure = (name: string) => endpoints.hello(name);
  const event: PeerClocksOptions['event'] = (severity, kind, message) => events.add(null, severity, kind, message);
  const peerClocks = new PeerClocks({ clocks: HOST_CLOCKS, store, measure, event, log });

  let peerServer: PeerServer | undefined;
  const all: DaemonServices = {
    ...services,
    config,
    log,
    authority,
    enrolment,
    peers,
    endpoints,
    peerClocks,
    arrivals: new Map(),
    lacking: new Map(),
    actions,
    events,
    peerServer: () => peerServer!,
    scrubbing,
    startedAt: Date.now(),
  };
  const definitions = new Definitions(all);

  // Before anybody asks for them, as if they had never been forgotten.
  await mendStore(all, notes);
  await rescanIfForgotten(all);
  // A replica whose disks a failed-over VM uses must not be touched; its inbox is empty, so nothing was.
  // One that a host became half way, stepped down or handing over, is to go on instead.
  for (const record of store.relationships()) if (runsHere(record)) await replicas.find(record.id)?.freeze();
  const { host, port } = { host: config.listen.address, port: config.listen.port };
  const endpoint = (peer: string) => endpointFor(all, peer);
  // Peers are served before plans go on: the other side of a planned failover may be waiting for the same.
  peerServer = await PeerServer.listen({ host, port, authority, peers, enrolment, endpoint, version: VERSION, log });
  // Before anything that may take its time: VMs run on leases that end.
  const leaseKeeper = new LeaseKeeper({
    services,
    log,
    guard: () => keepGuard(services.leases.directory, config.libvirtSocket),
  });
  leaseKeeper.begin();
  // Views are gone with the process that served them; a test VM that has waited meanwhile goes on with a new one.
  await resumeTests(all);
  const takenUp = actions.takeUp();
  const api = await serveApi({ socketPath: config.socket, operations: operations(all), log });
  // Loops begin when plans have had their try: a plan may be about to move the role.
  const contact = new Contact({
    store,
    peer: services.peer,
    inAction,
    onRoleLost: (id) => roles.roleLost(id),
    onRoom: (id) => services.primaries.loop(id).wake(),
    onLacking: (id, lacking) => noteLacking(all, id, lacking),
    log,
  });
  const wished = new RawDiskRounds(all);
  const rawDisks = new Rounds(RAW_DISKS_MS, () => wished.look());
  void sayVersions(all);
  const begun = takenUp.then(async () => {
    scrubbing.begin();
    definitions.begin();
    await roles.begin();
    contact.begin();
    peerClocks.begin();
    rawDisks.begin();
  });
  begun.catch((error: unknown) => log.error({ err: error }, 'relationships could not be taken up'));
  const renewal = setInterval(
    () =>
      void authority
        .renewIfDue()
        .catch((error: unknown) => log.error({ err: error }, 'renewing the certificate failed')),
    RENEWAL_CHECK_MS,
  );
  log.info({ name: config.name, port: peerServer.port, version: VERSION }, 'understudyd serves');

  return {
    close: async () => {
      clearInterval(renewal);
      await rawDisks.close();
      await scrubbing.close();
      await definitions.close();
      await contact.close();
      await peerClocks.close();
      await leaseKeeper.close();
      await roles.close();
      // Before the loops: what an action does last may be to begin one.
      await actions.close();
      await services.primaries.stopAll();
      await api.close();
      await peerServer.close();
      await services.testViews.closeAll();
      await replicas.close();
      await endpoints.close();
      await machine.close();
      store.close();
      await lanes.close();
      await senders.close();
      log.info('understudyd has ended');
    },
  };

  function primaryServices(id: string) {
    const { peer } = store.relationship(id)!;
    return {
      hypervisor,
      // Asked at each call: the peer's address may have changed.
      endpoint: endpoints.following(peer),
      store,
      outbox: new Outbox(join(config.outboxDirectory, id)),
      known: new KnownBlocks(join(config.stateDirectory, 'digests', id), log),
      lanes,
      log,
      ...HOST_CLOCKS,
      compression: config.compression,
      verifySeconds: config.verify.passDays * DAY_SECONDS,
      sliceBytes: config.slice.bytes,
      compareBytesPerSecond: config.resync.readBytesPerSecond,
      outboxLimit: () => outboxLimit(config),
      pointLimits: POINT_LIMITS,
      points,
      event: (severity: 'info' | 'warning' | 'critical', kind: string, message: string) =>
        events.add(id, severity, kind, message),
    };
  }
}

/** What is out of the supported range is said at the start, as far as the hypervisor answers then; `status` says it at any time. */
async function sayVersions({ hypervisor, events, log }: DaemonServices): Promise<void> {
  try {
    const versions = await hypervisor.versions();
    const old = tooOld(versions);
    const remark = old ?? untried(versions);
    log.info({ versions }, remark ?? 'versions are supported');
    if (remark !== undefined) events.add(null, old === undefined ? 'info' : 'critical', 'versions', remark);
  } catch (error) {
    log.warn({ err: asFailure(error) }, 'the hypervisor does not say its versions');
  }
}

function operations(services: DaemonServices): Operations {
  return {
    ...hostOperations(services),
    ...doctorOperations(services),
    ...peerOperations(services),
    ...replicationOperations(services),
    ...neighbourOperations(services),
    ...rawDiskOperations(services),
    ...proofOperations(services),
    ...driftOperations(services),
    ...failoverOperations(services),
    ...streamOperations(services, (id) => viewOf(services, id)),
  };
}

/** The outbox of one VM may take what is configured, and never more than a tenth of what is free. */
async function outboxLimit(config: Config): Promise<number> {
  const { freeBytes } = await roomAt(config.outboxDirectory);
  return Math.min(config.outbox.maxBytes, Math.floor(freeBytes / 10));
}

async function makeDirectories(config: Config): Promise<void> {
  // QEMU's user passes through to disks and sockets; what is secret lies below in directories of its own.
  for (const path of [config.stateDirectory, config.runDirectory, config.replicaDirectory, config.trackingDirectory]) {
    await makeDirectory(path, 0o711);
  }
  await makeDirectory(config.outboxDirectory, 0o700);
  await makeDirectory(config.pointDirectory, 0o711);
}
