-- Schema 1. Numbers for states are in codes.rs. Times are milliseconds since the Unix epoch.
-- Ids are 16 bytes whose order is the order of time, so rows are appended, not scattered.

-- One row per event, small: lists and state changes never touch the bytes of a request.
-- How many deliveries are open and dead is kept here, so that the end of an event is noticed without
-- looking at its other deliveries.
CREATE TABLE events (
    id              BLOB    NOT NULL PRIMARY KEY,
    source          TEXT    NOT NULL,
    event_id        TEXT,
    event_type      TEXT,
    received_at     INTEGER NOT NULL,
    state           INTEGER NOT NULL,
    ended_at        INTEGER,
    deliveries_open INTEGER NOT NULL,
    deliveries_dead INTEGER NOT NULL,
    resent          INTEGER NOT NULL,
    retry_marker    TEXT,
    identity        TEXT,
    digest          BLOB,
    mark_until      INTEGER NOT NULL,
    body_bytes      INTEGER NOT NULL,
    content         INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

-- What prune looks for.
CREATE INDEX events_ended ON events (state, ended_at) WHERE ended_at IS NOT NULL;

-- The few a person looks for among the many: open, dead and held ones.
CREATE INDEX events_few ON events (state, id) WHERE state IN (0, 2, 4);

-- The bytes of an event, apart because they are large and never change.
CREATE TABLE contents (
    number  INTEGER PRIMARY KEY,
    query   TEXT NOT NULL,
    headers BLOB NOT NULL,
    body    BLOB NOT NULL
) STRICT;

-- The memory of identities. A row outlives its event: it expires only from the time its event is
-- pruned, so it has no expiry before. Providers' ids mostly rise, so keeping the text in order
-- appends, where a hash of it would scatter.
CREATE TABLE marks (
    source     TEXT NOT NULL,
    identity   TEXT NOT NULL,
    event      BLOB NOT NULL,
    expires_at INTEGER,
    PRIMARY KEY (source, identity)
) STRICT, WITHOUT ROWID;

CREATE INDEX marks_expiring ON marks (expires_at) WHERE expires_at IS NOT NULL;

-- The memory of signed contents, for sources whose ids are not signed. It keeps the first event of
-- each content, and expires as marks do.
CREATE TABLE digests (
    source     TEXT NOT NULL,
    digest     BLOB NOT NULL,
    event      BLOB NOT NULL,
    expires_at INTEGER,
    PRIMARY KEY (source, digest)
) STRICT, WITHOUT ROWID;

CREATE INDEX digests_expiring ON digests (expires_at) WHERE expires_at IS NOT NULL;

-- The newest duplicates of each event. The highest number is how many there were.
CREATE TABLE duplicates (
    event        BLOB    NOT NULL,
    number       INTEGER NOT NULL,
    received_at  INTEGER NOT NULL,
    retry_marker TEXT,
    PRIMARY KEY (event, number)
) STRICT, WITHOUT ROWID;

-- One row per delivery. While it is leased, due_at is the end of its lease. The source is its
-- event's, kept here for counting.
CREATE TABLE deliveries (
    id                      BLOB    NOT NULL PRIMARY KEY,
    event                   BLOB    NOT NULL,
    source                  TEXT    NOT NULL,
    handler                 TEXT    NOT NULL,
    state                   INTEGER NOT NULL,
    due_at                  INTEGER NOT NULL,
    token                   INTEGER NOT NULL,
    attempts                INTEGER NOT NULL,
    attempts_before_redrive INTEGER NOT NULL,
    deaths_in_a_row         INTEGER NOT NULL,
    leased_at               INTEGER NOT NULL,
    replay_of               BLOB,
    redriven_by             BLOB,
    last_error              TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX deliveries_of_event ON deliveries (event);

-- The queue is two indexes: a claim takes what is due from both, and a process that has just begun
-- finds the leases of the one before it without looking through the backlog.
CREATE INDEX deliveries_queued ON deliveries (handler, due_at, id) WHERE state = 0;
CREATE INDEX deliveries_leased ON deliveries (handler, due_at, id) WHERE state = 1;

-- The dead letters.
CREATE INDEX deliveries_dead ON deliveries (id, handler) WHERE state = 3;

-- So that a redrive sent again finds what it did.
CREATE INDEX deliveries_redriven ON deliveries (redriven_by) WHERE redriven_by IS NOT NULL;

-- How attempts ended, the newest of each delivery.
CREATE TABLE attempts (
    delivery   BLOB    NOT NULL,
    number     INTEGER NOT NULL,
    started_at INTEGER NOT NULL,
    took_ms    INTEGER,
    outcome    INTEGER NOT NULL,
    status     INTEGER,
    error      TEXT,
    excerpt    TEXT,
    PRIMARY KEY (delivery, number)
) STRICT, WITHOUT ROWID;

-- The last claim of each worker of this process, so that it can be sent again. Leases are packed:
-- 16 bytes of delivery, 8 of token.
CREATE TABLE claims (
    worker BLOB NOT NULL PRIMARY KEY,
    id     BLOB NOT NULL,
    leases BLOB NOT NULL
) STRICT, WITHOUT ROWID;

-- Counters and gauges, by source and handler; the handler is empty for what is about events only.
-- A batch adds its sums once.
CREATE TABLE counts (
    source     TEXT    NOT NULL,
    handler    TEXT    NOT NULL,
    events     INTEGER NOT NULL,
    duplicates INTEGER NOT NULL,
    held       INTEGER NOT NULL,
    unrouted   INTEGER NOT NULL,
    done       INTEGER NOT NULL,
    dead       INTEGER NOT NULL,
    queued     INTEGER NOT NULL,
    leased     INTEGER NOT NULL,
    dead_now   INTEGER NOT NULL,
    held_now   INTEGER NOT NULL,
    PRIMARY KEY (source, handler)
) STRICT, WITHOUT ROWID;

-- One row, written to learn whether the store can be written to.
CREATE TABLE probe (
    number INTEGER PRIMARY KEY,
    at     INTEGER NOT NULL
) STRICT;

INSERT INTO probe VALUES (1, 0);
