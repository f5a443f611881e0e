-- The history grows without end, so it lives in partitions by the quarter in which a state was recorded, and a
-- quarter is dropped as a whole. What a wrong clock dated goes to `revisions_other`. The last state of each
-- entity from quarters that were dropped goes to `revisions_kept`, where an as-of read finds the beginning.
ALTER TABLE syncpoint.revisions RENAME TO revisions_0001;
ALTER TABLE syncpoint.revisions_0001 RENAME CONSTRAINT revisions_pkey TO revisions_0001_pkey;
DROP INDEX syncpoint.revisions_of_entity;

CREATE SEQUENCE syncpoint.revision_id AS bigint;

CREATE TABLE syncpoint.revisions (
    id bigint NOT NULL DEFAULT nextval('syncpoint.revision_id'),
    transaction xid8 NOT NULL DEFAULT pg_current_xact_id(),
    entity_set text NOT NULL,
    entity_key text NOT NULL,
    fetch_number bigint NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    effective_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_until timestamptz,
    source text NOT NULL CONSTRAINT revisions_source CHECK (source IN ('client write', 'upstream refresh',
        'settlement', 'poll', 'backfill', 'sweep', 'comparison')),
    user_name text,
    client text,
    request_id text NOT NULL,
    method text,
    changed text[],
    document text,
    unseen boolean NOT NULL DEFAULT false,
    deleted boolean NOT NULL DEFAULT false,
    gap boolean NOT NULL DEFAULT false,
    PRIMARY KEY (id, recorded_at)
) PARTITION BY RANGE (recorded_at);
CREATE INDEX revisions_of_entity
    ON syncpoint.revisions (entity_set, entity_key, effective_at DESC, id DESC);
CREATE INDEX revisions_transaction ON syncpoint.revisions (transaction);
COMMENT ON TABLE syncpoint.revisions IS
    'Every recorded state of every entity, never changed afterwards. Written in the transaction that '
    'changes the mirror.';
COMMENT ON COLUMN syncpoint.revisions.id IS 'Rises with every state of one entity.';
COMMENT ON COLUMN syncpoint.revisions.transaction IS 'The transaction that wrote it: the feed reads by it.';
COMMENT ON COLUMN syncpoint.revisions.entity_set IS 'Name of the entity set.';
COMMENT ON COLUMN syncpoint.revisions.entity_key IS 'Key predicate in canonical form, without brackets.';
COMMENT ON COLUMN syncpoint.revisions.fetch_number IS 'Number of the fetch that showed the state.';
COMMENT ON COLUMN syncpoint.revisions.recorded_at IS 'When it was recorded, by the clock of Postgres.';
COMMENT ON COLUMN syncpoint.revisions.effective_at IS
    'Since when it held: ModifiedOn where that moved forward, else recorded_at.';
COMMENT ON COLUMN syncpoint.revisions.seen_until IS
    'When the state before was last confirmed, by the proxy''s clock; null where there was none.';
COMMENT ON COLUMN syncpoint.revisions.source IS 'Why it was recorded.';
COMMENT ON COLUMN syncpoint.revisions.user_name IS 'Who asked, as far as known.';
COMMENT ON COLUMN syncpoint.revisions.client IS 'Where the request came from, as far as known.';
COMMENT ON COLUMN syncpoint.revisions.request_id IS 'Id of the request that led to it.';
COMMENT ON COLUMN syncpoint.revisions.method IS 'The operation of the write; null where it was none.';
COMMENT ON COLUMN syncpoint.revisions.changed IS
    'Properties that differ from the state before; null where there was none, or it is not known.';
COMMENT ON COLUMN syncpoint.revisions.document IS
    'The entity as upstream wrote it, origins as placeholders; what was posted where unseen; null where '
    'deleted.';
COMMENT ON COLUMN syncpoint.revisions.unseen IS
    'The state itself was never seen: document is what the write posted.';
COMMENT ON COLUMN syncpoint.revisions.deleted IS 'The entity ceased to exist.';
COMMENT ON COLUMN syncpoint.revisions.gap IS
    'Between the state before, last seen at seen_until, and this one others may have passed unseen.';

CREATE TABLE syncpoint.revisions_other (LIKE syncpoint.revisions INCLUDING ALL);
ALTER TABLE syncpoint.revisions ATTACH PARTITION syncpoint.revisions_other DEFAULT;
COMMENT ON TABLE syncpoint.revisions_other IS 'Revisions of a time that has no partition.';
CREATE TABLE syncpoint.revisions_kept (
    LIKE syncpoint.revisions INCLUDING DEFAULTS INCLUDING COMMENTS,
    PRIMARY KEY (entity_set, entity_key)
);
COMMENT ON TABLE syncpoint.revisions_kept IS
    'Of each entity the last revision that retention took out of syncpoint.revisions.';
CREATE VIEW syncpoint.history AS
    SELECT * FROM syncpoint.revisions UNION ALL SELECT * FROM syncpoint.revisions_kept;
COMMENT ON VIEW syncpoint.history IS 'All that is still known of the states of entities.';
DO $$
DECLARE
    part record;
BEGIN
    FOR part IN SELECT attname, col_description(attrelid, attnum) AS told FROM pg_attribute
        WHERE attrelid = 'syncpoint.revisions'::regclass AND attnum > 0
    LOOP
        EXECUTE format('COMMENT ON COLUMN syncpoint.history.%I IS %L', part.attname, part.told);
    END LOOP;
END $$;

CREATE FUNCTION syncpoint.make_revision_partitions() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    first date := date_trunc('quarter', now() AT TIME ZONE 'UTC');
    beginning timestamptz;
    ending timestamptz;
    name text;
BEGIN
    PERFORM pg_advisory_xact_lock(x'50415254'::integer);  -- one process after another
    FOR quarter IN 0..1 LOOP
        beginning := (first + quarter * interval '3 months') AT TIME ZONE 'UTC';
        ending := (first + (quarter + 1) * interval '3 months') AT TIME ZONE 'UTC';
        name := 'revisions_' || to_char(beginning AT TIME ZONE 'UTC', 'YYYY"q"Q');
        CONTINUE WHEN to_regclass('syncpoint.' || name) IS NOT NULL;
        EXECUTE format('CREATE TABLE syncpoint.%I
            (LIKE syncpoint.revisions INCLUDING ALL)', name);
        EXECUTE format('COMMENT ON TABLE syncpoint.%I IS ''Revisions recorded in that quarter.''', name);
        EXECUTE format('WITH late AS (DELETE FROM syncpoint.revisions_other
            WHERE recorded_at >= %L AND recorded_at < %L RETURNING *)
            INSERT INTO syncpoint.%I SELECT * FROM late', beginning, ending, name);
        EXECUTE format('ALTER TABLE syncpoint.revisions ATTACH PARTITION syncpoint.%I
            FOR VALUES FROM (%L) TO (%L)', name, beginning, ending);
    END LOOP;
END $$;
COMMENT ON FUNCTION syncpoint.make_revision_partitions IS
    'Makes the partitions of this quarter and the next, as far as they are missing.';
SELECT syncpoint.make_revision_partitions();

INSERT INTO syncpoint.revisions (id, entity_set, entity_key, fetch_number, recorded_at, effective_at, source,
    user_name, client, request_id, method, document, unseen, deleted, gap)
SELECT nextval('syncpoint.revision_id'), entity_set, entity_key, fetch_number, recorded_at, recorded_at, source,
    user_name, client, request_id, method, document, unseen, deleted, source <> 'client write'
FROM syncpoint.revisions_0001 ORDER BY id;
DROP TABLE syncpoint.revisions_0001;

CREATE FUNCTION syncpoint.changed_properties(before text, after text) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    -- Only equality counts, so escapes may become letters: some (NUL, half a character) Postgres cannot read.
    -- Nor is a document quite JSON: two control characters stand for origins.
    before := translate(before, E'\x01\x02', '');
    after := translate(after, E'\x01\x02', '');
    RETURN (
        SELECT coalesce(array_agg(DISTINCT key), '{}')
        FROM json_each(
            replace(replace(replace(before, '\\', U&'\E000'), '\"', U&'\E001'), '\', U&'\E002')::json
        ) b FULL JOIN json_each(
            replace(replace(replace(after, '\\', U&'\E000'), '\"', U&'\E001'), '\', U&'\E002')::json
        ) a USING (key)
        WHERE key <> '__metadata' AND a.value::text IS DISTINCT FROM b.value::text
    );
EXCEPTION WHEN data_exception THEN
    RETURN NULL;
END $$;
COMMENT ON FUNCTION syncpoint.changed_properties IS
    'Names of the members in which two documents differ; null where one of them is no JSON object.';

-- In PL/pgSQL because its plan is kept: planning for many partitions takes longer than looking into them.
CREATE FUNCTION syncpoint.revision_as_of(of_set text, of_key text, at timestamptz)
RETURNS SETOF syncpoint.revisions LANGUAGE plpgsql STABLE AS $$
BEGIN
    RETURN QUERY SELECT * FROM syncpoint.revisions
        WHERE entity_set = of_set AND entity_key = of_key AND effective_at <= at AND NOT unseen
        ORDER BY effective_at DESC, id DESC LIMIT 1;
    IF NOT FOUND THEN
        RETURN QUERY SELECT * FROM syncpoint.revisions_kept
            WHERE entity_set = of_set AND entity_key = of_key AND effective_at <= at;
    END IF;
END $$;
COMMENT ON FUNCTION syncpoint.revision_as_of IS 'The last recorded state of an entity that held at that time.';

CREATE TABLE syncpoint.feed (
    database uuid NOT NULL DEFAULT gen_random_uuid(),
    dropped xid8 NOT NULL DEFAULT '0'
);
INSERT INTO syncpoint.feed DEFAULT VALUES;
COMMENT ON TABLE syncpoint.feed IS 'What cursors of the change feed are measured by; one row.';
COMMENT ON COLUMN syncpoint.feed.database IS 'Whose cursors are taken.';
COMMENT ON COLUMN syncpoint.feed.dropped IS 'The newest transaction of which revisions were dropped.';

CREATE FUNCTION syncpoint.drop_revisions(days jsonb, otherwise integer) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    part record;
    expired text[];
    remain boolean;
    newest xid8;
BEGIN
    PERFORM pg_advisory_xact_lock(x'50415254'::integer);
    FOR part IN
        SELECT name, (to_date(substr(name, 11, 4), 'YYYY') + substr(name, 16, 1)::integer * interval '3 months')
            AT TIME ZONE 'UTC' AS ending
        FROM (SELECT relname::text AS name FROM pg_class JOIN pg_inherits ON inhrelid = pg_class.oid
              WHERE inhparent = 'syncpoint.revisions'::regclass) parts
        WHERE name ~ '^revisions_\d{4}q\d$' ORDER BY name
    LOOP
        CONTINUE WHEN part.ending > now();
        EXECUTE format('SELECT array_agg(entity_set) FILTER (WHERE is_over),
                coalesce(bool_or(NOT is_over), false)
            FROM (SELECT entity_set, kept > 0 AND $3 <= now() - kept * interval ''1 day'' AS is_over
                FROM (SELECT entity_set, coalesce(($1->>entity_set)::integer, $2) AS kept
                    FROM syncpoint.%I GROUP BY entity_set) sets) judged', part.name)
            INTO expired, remain USING days, otherwise, part.ending;
        CONTINUE WHEN expired IS NULL;
        EXECUTE format('SELECT transaction FROM syncpoint.%I WHERE entity_set = ANY ($1)
            ORDER BY transaction DESC LIMIT 1', part.name) INTO newest USING expired;
        UPDATE syncpoint.feed SET dropped = newest WHERE dropped < newest;
        EXECUTE format('DELETE FROM syncpoint.revisions_kept kept USING syncpoint.%I gone
            WHERE gone.entity_set = ANY ($1) AND NOT gone.unseen
                AND gone.entity_set = kept.entity_set AND gone.entity_key = kept.entity_key', part.name)
            USING expired;
        EXECUTE format('INSERT INTO syncpoint.revisions_kept
            SELECT DISTINCT ON (entity_set, entity_key) * FROM syncpoint.%I
            WHERE entity_set = ANY ($1) AND NOT unseen
            ORDER BY entity_set, entity_key, effective_at DESC, id DESC', part.name) USING expired;
        IF remain THEN
            EXECUTE format('DELETE FROM syncpoint.%I WHERE entity_set = ANY ($1)', part.name) USING expired;
        ELSE
            EXECUTE format('DROP TABLE syncpoint.%I', part.name);
        END IF;
        RETURN part.name;
    END LOOP;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION syncpoint.drop_revisions IS
    'Takes what is older than its set''s days (0: never) out of the oldest partition that has such, and '
    'names it. Null: there is none.';
