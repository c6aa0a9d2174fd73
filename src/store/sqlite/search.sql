-- What people search by. Made where it is missing, whenever a store is opened.

-- Events that their mark does not lead to from the provider's id: those without an identity, and those
-- whose identity begins with something else. Most providers have none of these, and pay nothing. The
-- condition is repeated in search.rs.
CREATE INDEX IF NOT EXISTS events_aside ON events (event_id)
    WHERE event_id IS NOT NULL
        AND (identity IS NULL
            OR identity <> event_id AND substr(identity, 1, length(event_id) + 1) <> event_id || '|');
