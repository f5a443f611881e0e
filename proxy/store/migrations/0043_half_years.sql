-- An as-of read looks into every partition, so from now on each of them holds half a year. Those that hold
-- something stay as they are; the next one begins where the last one ends.
CREATE FUNCTION syncpoint.revision_partitions() RETURNS TABLE (name text, ending timestamptz)
LANGUAGE sql STABLE AS $$
    SELECT * FROM (
        SELECT relname::text,
            substring(pg_get_expr(relpartbound, pg_class.oid) FROM 'TO \(''([^'']+)''\)')::timestamptz AS upto
        FROM pg_class JOIN pg_inherits ON inhrelid = pg_class.oid
        WHERE inhparent = 'syncpoint.revisions'::regclass
    ) parts WHERE upto IS NOT NULL ORDER BY upto
$$;
COMMENT ON FUNCTION syncpoint.revision_partitions IS
    'The partitions of the history and when each ends, without that for times that have none.';

CREATE OR REPLACE FUNCTION syncpoint.make_revision_partitions() RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    beginning timestamptz;
    ending timestamptz;
    name text;
BEGIN
    PERFORM pg_advisory_xact_lock(x'50415254'::integer);  -- one process after another
    LOOP
        SELECT max(parts.ending) INTO ending FROM syncpoint.revision_partitions() parts;
        EXIT WHEN ending > now() + interval '3 months';
        beginning := greatest(ending, syncpoint.half_year_of(now()));
        ending := (syncpoint.half_year_of(beginning) AT TIME ZONE 'UTC' + interval '6 months') AT TIME ZONE 'UTC';
        name := 'revisions_' || to_char(beginning AT TIME ZONE 'UTC', 'YYYY_MM');
        EXECUTE format('CREATE TABLE syncpoint.%I
            (LIKE syncpoint.revisions INCLUDING ALL)', name);
        EXECUTE format('COMMENT ON TABLE syncpoint.%I IS
            ''Revisions recorded from that month to the end of its half-year.''', name);
        EXECUTE format('WITH late AS (DELETE FROM syncpoint.revisions_other
            WHERE recorded_at >= %L AND recorded_at < %L RETURNING *)
            INSERT INTO syncpoint.%I SELECT * FROM late', beginning, ending, name);
        EXECUTE format('ALTER TABLE syncpoint.revisions ATTACH PARTITION syncpoint.%I
            FOR VALUES FROM (%L) TO (%L)', name, beginning, ending);
    END LOOP;
END $$;
COMMENT ON FUNCTION syncpoint.make_revision_partitions IS
    'Makes the partitions of this half-year and, three months before it begins, of the next, where they are missing.';
CREATE FUNCTION syncpoint.half_year_of(moment timestamptz) RETURNS timestamptz LANGUAGE sql IMMUTABLE AS $$
    SELECT (date_trunc('year', moment AT TIME ZONE 'UTC')
        + CASE WHEN extract(month FROM moment AT TIME ZONE 'UTC') > 6 THEN interval '6 months' ELSE interval '0' END
    ) AT TIME ZONE 'UTC'
$$;
COMMENT ON FUNCTION syncpoint.half_year_of IS 'When the half-year of a moment began, in UTC.';

CREATE OR REPLACE FUNCTION syncpoint.drop_revisions(days jsonb, otherwise integer) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    part record;
    expired text[];
    remain boolean;
    newest xid8;
BEGIN
    PERFORM pg_advisory_xact_lock(x'50415254'::integer);
    FOR part IN SELECT * FROM syncpoint.revision_partitions() WHERE ending <= now()
    LOOP
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

DO $$
DECLARE
    part record;
    is_empty boolean;
BEGIN
    FOR part IN SELECT * FROM syncpoint.revision_partitions() LOOP
        EXECUTE format('SELECT NOT EXISTS (SELECT FROM syncpoint.%I)', part.name) INTO is_empty;
        IF is_empty THEN
            EXECUTE format('DROP TABLE syncpoint.%I', part.name);
        END IF;
    END LOOP;
END $$;
SELECT syncpoint.make_revision_partitions();

CREATE OR REPLACE FUNCTION syncpoint.is_certain(of_set text, of_key text, since timestamptz, at timestamptz)
RETURNS boolean LANGUAGE plpgsql STABLE COST 10000 AS $$
DECLARE
    next record;
BEGIN
    -- What holds since a moment was recorded then or later, so partitions from before need no look.
    FOR next IN SELECT effective_at, unseen, gap, seen_until FROM syncpoint.revisions
        WHERE entity_set = of_set AND entity_key = of_key AND effective_at > since
            AND recorded_at > since - interval '1 minute'
        ORDER BY effective_at, id
    LOOP
        IF next.effective_at > at THEN
            RETURN NOT next.gap OR coalesce(next.seen_until >= at, false);
        ELSIF next.unseen THEN
            RETURN false;
        END IF;
    END LOOP;
    RETURN true;
END $$;

CREATE FUNCTION syncpoint.state_as_of(
    of_set text, of_key text, at timestamptz,
    OUT document text, OUT deleted boolean, OUT effective_at timestamptz, OUT certain boolean
) RETURNS SETOF record LANGUAGE plpgsql STABLE AS $$
BEGIN
    SELECT found.document, found.deleted, found.effective_at INTO document, deleted, effective_at
        FROM syncpoint.revision_as_of(of_set, of_key, at) found;
    IF effective_at IS NOT NULL THEN
        certain := syncpoint.is_certain(of_set, of_key, effective_at, at);
        RETURN NEXT;
    END IF;
END $$;
COMMENT ON FUNCTION syncpoint.state_as_of IS
    'The state of an entity that held at that moment, and whether no other may have held then; no row: none is known.';
