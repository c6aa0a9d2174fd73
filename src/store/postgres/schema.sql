-- Schema 1. Numbers for states are in codes.rs. Times are milliseconds since the Unix epoch: due_at,
-- leased_at and ended_at by the clock of this server, the others by that of the process that wrote them.
-- Ids are UUIDs whose order is the order of time, so rows are appended, not scattered.

-- The server's time.
CREATE FUNCTION now_ms() RETURNS bigint LANGUAGE sql VOLATILE AS
    'SELECT (extract(epoch FROM clock_timestamp()) * 1000)::bigint';

-- Breaks the transaction off that comes to its end too late.
CREATE FUNCTION in_time(not_after bigint) RETURNS bigint LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    now bigint := now_ms();
BEGIN
    IF now > not_after THEN
        RAISE EXCEPTION 'nobody waits for this any more' USING ERRCODE = 'HKL01';
    END IF;
    RETURN now;
END
$$;

-- How the store stands when it moves house: one row, in the words of moving/standing.rs.
CREATE TABLE moving (standing text NOT NULL);

INSERT INTO moving VALUES ('serving');

-- Where every transaction that writes begins. Those hold the lock together, and a step of a move holds it
-- alone: it waits for the end of those before it, and those behind it see what it did.
CREATE FUNCTION enter(purpose text) RETURNS void LANGUAGE plpgsql VOLATILE AS $$
DECLARE
    stands text;
BEGIN
    IF purpose = 'move' THEN
        PERFORM pg_advisory_xact_lock(7526466502050573927);
        RETURN;
    END IF;
    PERFORM pg_advisory_xact_lock_shared(7526466502050573927);
    SELECT standing INTO STRICT stands FROM moving;
    IF split_part(stands, ' ', 1) NOT IN ('serving', 'filled')
        AND NOT (purpose = 'end' AND starts_with(stands, 'handing-over ')) THEN
        RAISE EXCEPTION '%', stands USING ERRCODE = 'HKL02';
    END IF;
END
$$;

-- The memory of identities: a hash of source and identity, which store/mark.rs makes. A row outlives its
-- event: it expires only from the time its event is pruned, so it has no expiry before. Then it also gets
-- the key of its event's digest, for a store that places marks by it.
CREATE TABLE marks (
    event      uuid   NOT NULL,
    expires_at bigint,
    key        bytea  NOT NULL PRIMARY KEY,
    digest     bytea
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.1);

CREATE INDEX marks_expiring ON marks (expires_at) WHERE expires_at IS NOT NULL;

-- The memory of signed contents, for sources whose ids are not signed. It keeps the first event of
-- each content, and expires as marks do.
CREATE TABLE digests (
    event      uuid   NOT NULL,
    expires_at bigint,
    key        bytea  NOT NULL PRIMARY KEY
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_vacuum_insert_scale_factor = 0.1);

CREATE INDEX digests_expiring ON digests (expires_at) WHERE expires_at IS NOT NULL;

-- One row per event, small: lists and state changes never touch the bytes of a request.
-- How many deliveries are open and dead is kept here, so that the end of an event is noticed without
-- looking at its other deliveries. The digest is kept whole beside its key: a store that this one is moved
-- into may go by all of it.
CREATE TABLE events (
    id              uuid     NOT NULL PRIMARY KEY,
    received_at     bigint   NOT NULL,
    ended_at        bigint,
    mark_until      bigint   NOT NULL,
    body_bytes      bigint   NOT NULL,
    duplicates      bigint   NOT NULL,
    deliveries_open bigint   NOT NULL,
    deliveries_dead bigint   NOT NULL,
    state           smallint NOT NULL,
    resent          boolean  NOT NULL,
    shadow          boolean  NOT NULL,
    source          text     NOT NULL,
    event_id        text,
    event_type      text,
    retry_marker    text,
    identity        text,
    mark            bytea,
    digest          bytea,
    digest_key      bytea,
    request         uuid
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

-- What prune looks for.
CREATE INDEX events_ended ON events (state, ended_at) WHERE ended_at IS NOT NULL;

-- The few a person looks for among the many: open, dead and held ones.
CREATE INDEX events_few ON events (state, id) WHERE state IN (0, 2, 4);

-- So that a request goes with its last event.
CREATE INDEX events_of_request ON events (request) WHERE request IS NOT NULL;

-- Requests that held more than one event's bytes, each kept once for all its events, whose contents have
-- no headers of their own.
CREATE TABLE requests (
    id      uuid  NOT NULL PRIMARY KEY,
    headers bytea NOT NULL,
    body    bytea NOT NULL
) WITH (toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0.05);

-- The bytes of an event, apart because they are large and never change. What fits into a page stays in
-- the row: most requests then cost one write, not three.
CREATE TABLE contents (
    event   uuid  NOT NULL PRIMARY KEY,
    query   text  NOT NULL,
    headers bytea NOT NULL,
    body    bytea NOT NULL
) WITH (toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0.05);

-- The newest duplicates of each event, numbered as they came.
CREATE TABLE duplicates (
    event        uuid   NOT NULL,
    number       bigint NOT NULL,
    received_at  bigint NOT NULL,
    retry_marker text,
    PRIMARY KEY (event, number)
);

-- One row per delivery. While it is leased, due_at is the end of its lease. The source is its
-- event's, kept here for counting.
CREATE TABLE deliveries (
    id                      uuid     NOT NULL PRIMARY KEY,
    event                   uuid     NOT NULL,
    due_at                  bigint   NOT NULL,
    token                   bigint   NOT NULL,
    attempts                bigint   NOT NULL,
    attempts_before_redrive bigint   NOT NULL,
    deaths_in_a_row         bigint   NOT NULL,
    leased_at               bigint   NOT NULL,
    state                   smallint NOT NULL,
    source                  text     NOT NULL,
    handler                 text     NOT NULL,
    replay_of               uuid,
    redriven_by             uuid,
    last_error              text
) WITH (
    fillfactor = 85,
    autovacuum_vacuum_scale_factor = 0.02,
    autovacuum_vacuum_cost_delay = 1,
    autovacuum_analyze_scale_factor = 0.05
);

CREATE INDEX deliveries_of_event ON deliveries (event);

-- The queue is two indexes: a claim takes what is due from both.
CREATE INDEX deliveries_queued ON deliveries (handler, due_at, id) WHERE state = 0;
CREATE INDEX deliveries_leased ON deliveries (handler, due_at, id) WHERE state = 1;

-- The dead letters.
CREATE INDEX deliveries_dead ON deliveries (id, handler) WHERE state = 3;

-- So that a redrive sent again finds what it did.
CREATE INDEX deliveries_redriven ON deliveries (redriven_by) WHERE redriven_by IS NOT NULL;

-- How attempts ended, the newest of each delivery.
CREATE TABLE attempts (
    delivery   uuid     NOT NULL,
    number     bigint   NOT NULL,
    started_at bigint   NOT NULL,
    took_ms    bigint,
    outcome    smallint NOT NULL,
    status     integer,
    error      text,
    excerpt    text,
    PRIMARY KEY (delivery, number)
) WITH (autovacuum_vacuum_scale_factor = 0.05);

-- The claims of each worker; the one with the highest number is its last and can be sent again. Leases
-- are packed: 16 bytes of delivery, 8 of token. Rows are added, never changed: a row changed with every
-- claim would grow a chain of old versions for as long as somebody else keeps a transaction open.
CREATE TABLE claims (
    worker uuid   NOT NULL,
    number bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    made_at bigint NOT NULL,
    id     uuid   NOT NULL,
    leases bytea  NOT NULL,
    PRIMARY KEY (worker, number)
);

-- Changes of counters and gauges, by source and handler; the handler is empty for what is about events
-- only. Rows are added, for the reason above, and because a row that all transactions change would make
-- them wait for each other. Prune sums them up.
CREATE TABLE counts (
    source     text   NOT NULL,
    handler    text   NOT NULL,
    events     bigint NOT NULL,
    duplicates bigint NOT NULL,
    held       bigint NOT NULL,
    unrouted   bigint NOT NULL,
    done       bigint NOT NULL,
    dead       bigint NOT NULL,
    queued     bigint NOT NULL,
    leased     bigint NOT NULL,
    dead_now   bigint NOT NULL,
    held_now   bigint NOT NULL,
    shadow     bigint NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.1);

-- Keyed requests. One row per key, small: what is begun and extended never touches the bytes of an answer.
-- Numbers for stages are in keyed/kept.rs. Whether a key that was begun is still in progress follows from
-- its lease's end, so nothing has to be written when a lease runs out. A key without an owner was resolved
-- by a person. All times are this server's.
CREATE TABLE keyed (
    id           bytea    NOT NULL PRIMARY KEY,
    begun_at     bigint   NOT NULL,
    lease_until  bigint   NOT NULL,
    completed_at bigint,
    expires_at   bigint,
    replays      bigint   NOT NULL,
    stage        smallint NOT NULL,
    owner        uuid,
    fingerprint  bytea    NOT NULL,
    api          text     NOT NULL,
    method       text     NOT NULL,
    path         text     NOT NULL,
    principal    text     NOT NULL,
    key          text     NOT NULL,
    note         text
) WITH (fillfactor = 85, autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);

-- Pages, those begun last first.
CREATE INDEX keyed_begun ON keyed (begun_at, id);

-- The few that are in progress or unknown, for a person and for the gauges.
CREATE INDEX keyed_open ON keyed (api, begun_at, id) WHERE stage < 2;

-- What prune looks for.
CREATE INDEX keyed_expiring ON keyed (expires_at) WHERE expires_at IS NOT NULL;

-- The bytes of an answer.
CREATE TABLE saved_responses (
    id      bytea   NOT NULL PRIMARY KEY,
    status  integer NOT NULL,
    headers bytea   NOT NULL,
    body    bytea   NOT NULL
) WITH (toast_tuple_target = 8160, autovacuum_vacuum_scale_factor = 0.05);

-- Refused requests, the newest few. What a list shows is JSON; whether one was admitted after all is apart,
-- because it is written later. The bytes count towards the share of its source.
CREATE TABLE refusals (
    id          uuid   NOT NULL PRIMARY KEY,
    received_at bigint NOT NULL,
    bytes       bigint NOT NULL,
    source      text   NOT NULL,
    step        text   NOT NULL,
    kept        text   NOT NULL,
    readmitted  text,
    headers     bytea  NOT NULL,
    sealed      bytea  NOT NULL,
    body        bytea
) WITH (autovacuum_vacuum_scale_factor = 0.1);

CREATE INDEX refusals_of_source ON refusals (source, id);

-- What this database is, the last row; those before it are what it was until a person accepted a loss. Its
-- counter rises while the store is in use: an older copy put back is noticed by it.
CREATE TABLE generations (
    id      text   NOT NULL PRIMARY KEY,
    number  bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
    counter bigint NOT NULL
);

INSERT INTO generations (id, counter) VALUES (replace(gen_random_uuid()::text, '-', ''), 0);

-- What people have said about handlers, each thing as JSON.
CREATE TABLE controls (
    handler text NOT NULL,
    name    text NOT NULL,
    value   text NOT NULL,
    PRIMARY KEY (handler, name)
);

-- One row, written to learn whether the store can be written to.
CREATE TABLE probe (at bigint NOT NULL);

INSERT INTO probe VALUES (0);
