-- What version 2 adds to version 1.

-- How the store stands where it moves house: one row, or none where it never has.
CREATE TABLE moving (
    number   INTEGER PRIMARY KEY CHECK (number = 1),
    standing TEXT NOT NULL
) STRICT;

-- Marks (kind 0) and digests (kind 1) that came from another store, of events that were pruned there:
-- only a hash of them is carried.
CREATE TABLE carried_marks (
    kind       INTEGER NOT NULL,
    key        BLOB    NOT NULL,
    event      BLOB    NOT NULL,
    expires_at INTEGER NOT NULL,
    digest     BLOB,
    PRIMARY KEY (kind, key)
) STRICT, WITHOUT ROWID;

CREATE INDEX carried_marks_expiring ON carried_marks (expires_at);

-- The digest that the event of a mark had, written when it is pruned: where marks are spread over
-- several places, it decides which is this one's.
ALTER TABLE marks ADD COLUMN digest BLOB;
