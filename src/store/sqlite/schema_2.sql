-- What version 2 adds to version 1.

-- ---- Refused requests -------------------------------------------------------------------------------
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
-- ---- End of refused requests ------------------------------------------------------------------------
