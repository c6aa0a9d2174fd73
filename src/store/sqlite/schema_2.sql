-- What version 2 adds to version 1.

-- Shadow mode ----------------------------------------------------------------------------------

-- Which events it let in, and how many of each source.
ALTER TABLE events ADD COLUMN shadow INTEGER NOT NULL DEFAULT 0;
ALTER TABLE counts ADD COLUMN shadow INTEGER NOT NULL DEFAULT 0;

-- Whole requests -------------------------------------------------------------------------------

-- Requests that held more than one event's bytes, each kept once for all its events, whose contents
-- have no headers of their own. One goes with the last event that refers to it.
CREATE TABLE requests (
    id      BLOB NOT NULL PRIMARY KEY,
    headers BLOB NOT NULL,
    body    BLOB NOT NULL
) STRICT;

ALTER TABLE events ADD COLUMN request BLOB;

CREATE INDEX events_of_request ON events (request) WHERE request IS NOT NULL;

-- Keyed requests -------------------------------------------------------------------------------

-- One row per key, small: what is begun, extended and counted never touches the bytes of an answer.
-- Numbers for stages are in keyed/mod.rs. Whether a key that was begun is still in progress follows
-- from its lease's end, so nothing has to be written when a lease runs out. A key without an owner
-- was resolved by a person.
CREATE TABLE keyed (
    number       INTEGER PRIMARY KEY,
    id           BLOB    NOT NULL UNIQUE,
    api          TEXT    NOT NULL,
    method       TEXT    NOT NULL,
    path         TEXT    NOT NULL,
    principal    TEXT    NOT NULL,
    key          TEXT    NOT NULL,
    fingerprint  BLOB    NOT NULL,
    owner        BLOB,
    stage        INTEGER NOT NULL,
    begun_at     INTEGER NOT NULL,
    lease_until  INTEGER NOT NULL,
    completed_at INTEGER,
    expires_at   INTEGER,
    replays      INTEGER NOT NULL,
    note         TEXT
) STRICT;

-- Pages, those begun last first.
CREATE INDEX keyed_begun ON keyed (begun_at, id);

-- The few that are in progress or unknown, for a person and for the gauges.
CREATE INDEX keyed_open ON keyed (api, begun_at, id) WHERE stage < 2;

-- What prune looks for.
CREATE INDEX keyed_expiring ON keyed (expires_at) WHERE expires_at IS NOT NULL;

-- The bytes of an answer, under the number of its key.
CREATE TABLE saved_responses (
    number  INTEGER PRIMARY KEY,
    status  INTEGER NOT NULL,
    headers BLOB    NOT NULL,
    body    BLOB    NOT NULL
) STRICT;

-- Its generation -------------------------------------------------------------------------------

-- What the file is, and how far it has come: an older copy put back is noticed by it. One row.
CREATE TABLE generation (
    id      TEXT    NOT NULL,
    counter INTEGER NOT NULL
) STRICT;

-- Moving house ---------------------------------------------------------------------------------

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

-- Refused requests -----------------------------------------------------------------------------

-- `kept` is the line in the list as JSON, less `readmitted`, which is written later. `bytes` stands
-- before what may be long, so that adding it up reads nothing else.
CREATE TABLE refusals (
    id          BLOB    NOT NULL PRIMARY KEY,
    source      TEXT    NOT NULL,
    step        TEXT    NOT NULL,
    received_at INTEGER NOT NULL,
    bytes       INTEGER NOT NULL,
    readmitted  TEXT,
    kept        TEXT    NOT NULL,
    headers     BLOB    NOT NULL,
    sealed      BLOB    NOT NULL,
    body        BLOB
) STRICT;

CREATE INDEX refusals_of_source ON refusals (source, id);

-- Handlers -------------------------------------------------------------------------------------

-- What people have said about handlers, each thing as JSON: control.rs knows which there are.
CREATE TABLE controls (
    handler TEXT NOT NULL,
    name    TEXT NOT NULL,
    value   TEXT NOT NULL,
    PRIMARY KEY (handler, name)
) STRICT, WITHOUT ROWID;
