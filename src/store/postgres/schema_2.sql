-- What schema version 2 adds to version 1.

-- Erasing ---------------------------------------------------------------------------------------

-- When a person erased what the sender of an event has written.
ALTER TABLE events ADD COLUMN erased_at bigint;

-- Order ------------------------------------------------------------------------------------------

-- What is here is written only where a handler asks for it: see line.rs.

-- What a delivery shares with those of its handler that it must not overtake, whether it leaves the line
-- when it is dead, and its place there while it stands in it. Whoever is not the first of a line is due in
-- the year 9999, so that a claim need not look. All empty where there is no order.
ALTER TABLE deliveries
    ADD COLUMN order_key bytea,
    ADD COLUMN skips     boolean,
    ADD COLUMN place     bigint;

CREATE INDEX deliveries_in_line ON deliveries (handler, order_key, place) WHERE place IS NOT NULL;

-- The lines that somebody stands in. Whoever joins or leaves one holds its row until the commit, so that
-- places are given in the order of the commits.
CREATE TABLE lines (
    handler    text   NOT NULL,
    order_key  bytea  NOT NULL,
    last_place bigint NOT NULL,
    length     bigint NOT NULL,
    PRIMARY KEY (handler, order_key)
) WITH (fillfactor = 70, autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_cost_delay = 1);
