/** A process that writes to the SQLite store named by its argument and reports each write once it has returned. */
import { writeSync } from 'node:fs';
import { SqliteStore } from '../../src/store/sqlite/store.ts';
import { fullRelationship } from '../conformance/store.ts';

const store = SqliteStore.open(process.argv[2]!);
for (let epoch = 1; ; epoch++) {
  store.putRelationship({ ...fullRelationship('r'), epoch });
  const event = store.addEvent({ time: epoch, severity: 'info', relationship: 'r', kind: 'wrote', message: '' });
  writeSync(1, `${epoch} ${event.id}\n`);
}
