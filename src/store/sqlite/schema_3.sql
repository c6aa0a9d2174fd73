-- What schema version 3 adds to version 2.

-- Erasing ---------------------------------------------------------------------------------------

-- When a person erased what the sender of an event has written.
ALTER TABLE events ADD COLUMN erased_at INTEGER;

-- Order ----------------------------------------------------------------------------------------

-- What a delivery shares with those of its handler that it must not overtake, whether it leaves the
-- line when it is dead, and its place there while it stands in it. Whoever is not the first of a line
-- is due in the year 9999, so that a claim need not look. All empty where there is no order.
ALTER TABLE deliveries ADD COLUMN order_key BLOB;
ALTER TABLE deliveries ADD COLUMN skips INTEGER;
ALTER TABLE deliveries ADD COLUMN place INTEGER;

CREATE INDEX deliveries_in_line ON deliveries (handler, order_key, place) WHERE place IS NOT NULL;
