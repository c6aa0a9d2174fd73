-- What version 2 adds to version 1.

-- Shadow mode: which events it let in, and how many of each source.
ALTER TABLE events ADD COLUMN shadow INTEGER NOT NULL DEFAULT 0;
ALTER TABLE counts ADD COLUMN shadow INTEGER NOT NULL DEFAULT 0;

-- Requests that held more than one event's bytes, each kept once for all its events, whose contents
-- have no headers of their own. One goes with the last event that refers to it.
CREATE TABLE requests (
    id      BLOB NOT NULL PRIMARY KEY,
    headers BLOB NOT NULL,
    body    BLOB NOT NULL
) STRICT;

ALTER TABLE events ADD COLUMN request BLOB;

CREATE INDEX events_of_request ON events (request) WHERE request IS NOT NULL;
