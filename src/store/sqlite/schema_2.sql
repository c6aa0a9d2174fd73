-- What version 2 adds to version 1.

-- What the file is, and how far it has come: an older copy put back is noticed by it. One row.
CREATE TABLE generation (
    id      TEXT    NOT NULL,
    counter INTEGER NOT NULL
) STRICT;
