/** Steps to the present layout; see `migrate`. Records are JSON: what they hold is checked by `records.ts`. */
export const LAYOUT: readonly string[] = [
  `CREATE TABLE relationship (place INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, body TEXT NOT NULL) STRICT;
   CREATE TABLE peer (place INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, body TEXT NOT NULL) STRICT;
   CREATE TABLE setting (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID;
   CREATE TABLE event (
     id INTEGER PRIMARY KEY AUTOINCREMENT,
     time INTEGER NOT NULL,
     severity TEXT NOT NULL,
     relationship TEXT,
     kind TEXT NOT NULL,
     message TEXT NOT NULL
   ) STRICT;
   CREATE INDEX event_of ON event (relationship, id);`,
];
