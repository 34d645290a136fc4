/** What every implementation of the port `src/store/store.ts` must do. */
import assert from 'node:assert/strict';
import { after, before, describe, test } from 'node:test';
import { Failure } from '../../src/model/failure.ts';
import { NO_STATISTICS, type RelationshipRecord, type Store } from '../../src/store/store.ts';

/** A record with every optional part filled, so that a part which isn't stored is missed. */
export function fullRelationship(id: string): RelationshipRecord {
  const state = 'ab'.repeat(16);
  const copy = { mode: 'compare', since: null, disk: 1, offset: 65536, blocksCompared: 7, blocksDifferent: 2 } as const;
  return {
    id,
    vmId: '6b1f1a52-6c1e-4b0e-9d3c-0a4a8e1f7d11',
    vmName: 'web "1" – ü',
    peer: 'host-b',
    role: 'primary',
    state: 'Replicating',
    epoch: 3,
    intervalSeconds: 5,
    history: 24,
    thin: [{ everySeconds: 3600, count: 24 }],
    disks: [
      { target: 'vda', size: 1024 ** 3, path: '/images/a b.qcow2' },
      { target: 'vdb', size: 2 ** 52, path: '/images/c.qcow2' },
    ],
    definition: "<domain type='qemu'>\n</domain>",
    autostart: true,
    position: { epoch: 3, sequence: 17, state },
    protectedUntil: 1_700_000_000_123,
    bitmap: 'understudy-1',
    copy,
    inFlight: {
      sequence: 18,
      logId: state,
      nextBitmap: 'understudy-2',
      copyAfter: { ...copy, disk: 2 },
      instant: 1_700_000_000_456,
      makes: { epoch: 3, sequence: 18, state },
    },
    suspended: true,
    failure: new Failure('unreachable', 'host-b does not answer').toJSON(),
    failover: { sequence: 17, instant: 1_700_000_000_000, started: 1_700_000_000_001 },
    test: { sequence: 16, instant: 1, started: 2, vmId: '6b1f1a52-6c1e-4b0e-9d3c-0a4a8e1f7d12', vmName: 'web - Test' },
    statistics: { ...NO_STATISTICS, cycles: 17, maxJobMs: 1.5 },
    created: 1_690_000_000_000,
  };
}

/** A record with every part that can be absent absent. */
export function bareRelationship(id: string): RelationshipRecord {
  const absent = {
    protectedUntil: null,
    bitmap: null,
    copy: null,
    inFlight: null,
    failure: null,
    failover: null,
    test: null,
  } as const;
  return { ...fullRelationship(id), ...absent, disks: [], role: 'replica' };
}

const peer = (name: string) => ({
  name,
  address: '10.0.0.2:8443',
  caCertificate: '-----BEGIN CERTIFICATE-----\n',
  caFingerprint: 'ff'.repeat(32),
});

const event = (relationship: string | null, message: string) =>
  ({ time: 1_700_000_000_000, severity: 'warning', relationship, kind: 'cycle-missed', message }) as const;

export function runStoreConformance(name: string, make: () => Store): void {
  describe(`store conformance: ${name}`, () => {
    let store: Store;
    before(() => {
      store = make();
    });
    after(() => {
      store.close();
    });

    test('a relationship comes back as it was put, whole or bare', () => {
      for (const record of [fullRelationship('r-full'), bareRelationship('r-bare')]) {
        store.putRelationship(record);
        assert.deepEqual(store.relationship(record.id), record);
      }
    });

    test('a relationship put again is replaced and keeps its place in the list', () => {
      store.putRelationship({ ...fullRelationship('r-full'), epoch: 4 });
      assert.deepEqual(
        store.relationships().map((record) => [record.id, record.epoch]),
        [
          ['r-full', 4],
          ['r-bare', 3],
        ],
      );
    });

    test('a reader gets its own copy, and so does the store', () => {
      const mine = structuredClone(fullRelationship('r-copy')) as { disks: { path: string }[] } & RelationshipRecord;
      store.putRelationship(mine);
      mine.disks[0]!.path = '/elsewhere';
      assert.equal(store.relationship('r-copy')?.disks[0]?.path, '/images/a b.qcow2');
      const read = store.relationship('r-copy') as typeof mine;
      read.disks[0]!.path = '/elsewhere';
      assert.equal(store.relationship('r-copy')?.disks[0]?.path, '/images/a b.qcow2');
    });

    test('what is deleted, or was never there, is undefined; deleting it again is no error', () => {
      store.deleteRelationship('r-copy');
      store.deleteRelationship('r-copy');
      assert.equal(store.relationship('r-copy'), undefined);
      assert.equal(store.relationship('r-never'), undefined);
      assert.equal(store.relationships().length, 2);
    });

    test('peers are put, replaced, listed and deleted', () => {
      store.putPeer(peer('host-b'));
      store.putPeer(peer('host-c'));
      store.putPeer({ ...peer('host-b'), address: '10.0.0.9:1' });
      assert.deepEqual(store.peer('host-b'), { ...peer('host-b'), address: '10.0.0.9:1' });
      assert.deepEqual(
        store.peers().map((record) => record.name),
        ['host-b', 'host-c'],
      );
      store.deletePeer('host-b');
      store.deletePeer('host-b');
      assert.equal(store.peer('host-b'), undefined);
      assert.deepEqual(store.peers(), [peer('host-c')]);
    });

    test('settings are undefined until they are set, and replaced', () => {
      assert.equal(store.setting('name'), undefined);
      store.setSetting('name', 'host-a');
      store.setSetting('name', '');
      assert.equal(store.setting('name'), '');
      assert.equal(store.setting('other'), undefined);
    });

    test('events get growing ids and are listed newest first, by relationship, in pages', () => {
      const added = ['one', 'two', 'three', 'four'].map((message, i) =>
        store.addEvent(event(i % 2 === 0 ? 'r-full' : null, message)),
      );
      assert.ok(added.every((record, i) => i === 0 || record.id > added[i - 1]!.id));
      assert.deepEqual(store.events({ limit: 10 }), added.toReversed());
      assert.deepEqual(store.events({ limit: 2 }), [added[3], added[2]]);
      assert.deepEqual(store.events({ limit: 2, before: added[2]!.id }), [added[1], added[0]]);
      assert.deepEqual(store.events({ relationship: 'r-full', limit: 10 }), [added[2], added[0]]);
      assert.deepEqual(store.events({ relationship: 'r-full', limit: 10, before: added[2]!.id }), [added[0]]);
      assert.deepEqual(store.events({ relationship: 'r-never', limit: 10 }), []);
    });
  });
}
