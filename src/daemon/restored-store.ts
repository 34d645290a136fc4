/**
 * At the start of a daemon: is its state database the one that it left? It may be lost, or an old copy of it may have been restored. What
 * lies on the disks decides: replica directories, which describe themselves (rescan.ts finds those that are forgotten), and the notes of
 * VMs that this host is the primary of. Where a primary stands, its replica says when it is asked (primary/reconcile.ts): a database that
 * lags behind costs a comparison.
 */
import { Failure } from '../model/failure.ts';
import { NOTHING_YET, type RelationshipRecord } from '../store/store.ts';
import type { Replica } from '../replica/replica.ts';
import type { PrimaryNote, PrimaryNotes } from './primary-notes.ts';
import { noteShape } from './replica-shape.ts';
import { recordFrom } from './rescan.ts';
import type { DaemonServices } from './services.ts';

/** Whoever is told of what was found, is told in events. */
export async function mendStore(services: DaemonServices, notes: PrimaryNotes): Promise<void> {
  const { store, replicas, actions } = services;
  /** In the middle of an action, which knows what it does. */
  const inAction = (id: string): boolean => actions.journal.holder(id) !== undefined;
  for (const replica of replicas.all()) {
    noteShape(store, replica.id, replica.disks); // a daemon that died between a log and this
    const record = store.relationship(replica.id);
    if (record !== undefined && !inAction(record.id)) mendReplica(services, record, replica);
  }
  for (const note of notes.all()) {
    if (inAction(note.id)) continue;
    const record = store.relationship(note.id);
    const isOlder = record !== undefined && isOlderThan(note, record);
    if (record === undefined || isOlder) await rebuildPrimary(services, note, isOlder);
    else if (record.replicaPlaintext === true && !note.replicaPlaintext) withdrawPlaintext(services, record);
  }
  // Those that an older version remembered without a note.
  for (const record of store.relationships()) notes.after(record, store.peer(record.peer));
}

/** One of the two is older than the other: what may be plain text is what both allow. */
function withdrawPlaintext({ store, event }: DaemonServices, record: RelationshipRecord): void {
  store.putRelationship({ ...record, replicaPlaintext: false });
  const text = `whether encrypted disks of ${record.vmName} may be replicated as plain text is not certain after a crash, or with an old state database: they are not`;
  event(record.id, 'warning', 'replica-plaintext', text);
}

/** Also one from before a disk was taken along: the replica would refuse every log that lacks it. Or from before one was left out. */
function isOlderThan(note: PrimaryNote, { role, epoch, disks }: RelationshipRecord): boolean {
  const lacks = note.disks.some(
    ({ target, gone }) => !disks.some((disk) => disk.target === target && (gone !== true || disk.gone === true)),
  );
  return role !== 'primary' || epoch < note.epoch || lacks;
}

/** What the directory says of the epoch is newer than what the database says: that is an old one. */
function mendReplica({ store, event }: DaemonServices, record: RelationshipRecord, replica: Replica): void {
  const { id, frozen, record: found } = replica;
  if (found.epoch <= record.epoch || frozen) return;
  if (record.role === 'replica') {
    const { epoch, intervalSeconds, history, thin, leaseSeconds } = found;
    store.putRelationship({ ...record, epoch, intervalSeconds, history, thin, leaseSeconds });
  } else if (record.state !== 'SteppedDown' && found.peer !== null) {
    // It says that the VM is this host's: it was, when that copy was made.
    store.putRelationship({ ...recordFrom(replica, found.peer.name, record.definition, record.created) });
  } else return;
  const text = `the state database is older than the replica of ${record.vmName}: epoch ${record.epoch}, the replica's is ${found.epoch}; the replica counts`;
  event(id, 'critical', 'state-database-older', text);
}

async function rebuildPrimary(services: DaemonServices, note: PrimaryNote, isOlder: boolean): Promise<void> {
  const { store, replicas, hypervisor, event } = services;
  const { id, vmId, vmName, epoch, peer } = note;
  const why = isOlder ? 'the state database is older than what lies beside it' : 'the state database has forgotten it';
  const vm = (await hypervisor.listVms()).find((one) => one.id === vmId);
  const obstacle =
    vm === undefined
      ? new Failure('not-found', `${vmName} is not on this host`, { hint: 'Define it again, and restart understudyd.' })
      : replicas.find(id) === undefined
        ? undefined
        : new Failure('wrong-state', `a replica of ${vmName} lies here, too`, {
            hint: 'Restore the state database from its latest backup: only it says which VM runs on which disks.',
          });
  if (obstacle !== undefined) {
    const text = `${vmName} was replicated to ${peer.name}, and is not any more: ${why}; ${obstacle.message}. ${obstacle.hint}`;
    event(id, 'critical', 'primary-forgotten', text);
    return;
  }
  if (store.peer(peer.name) === undefined) store.putPeer(peer);
  store.putRelationship(primaryFrom(note));
  const text = `${why}: ${vmName} is replicated to ${peer.name} again (epoch ${epoch}); both sides are compared`;
  event(id, 'warning', 'primary-rebuilt', text);
}

/** Without a position: the replica says where it stands, and both sides are compared. */
function primaryFrom({
  format: _format,
  peer,
  autoResync,
  definitionPolicy,
  leftOut,
  ...note
}: PrimaryNote): RelationshipRecord {
  return {
    ...NOTHING_YET,
    ...note,
    ...(autoResync === undefined ? {} : { autoResync }),
    ...(definitionPolicy === undefined ? {} : { definitionPolicy }),
    ...(leftOut === undefined ? {} : { leftOut }),
    peer: peer.name,
    role: 'primary',
    state: 'Replicating',
    position: { epoch: note.epoch, sequence: 0, state: '0'.repeat(32) },
  };
}
