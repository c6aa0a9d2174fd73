-- What version 2 adds to version 1.

-- Shadow mode: which events it let in, and how many of each source.
ALTER TABLE events ADD COLUMN shadow INTEGER NOT NULL DEFAULT 0;
ALTER TABLE counts ADD COLUMN shadow INTEGER NOT NULL DEFAULT 0;
