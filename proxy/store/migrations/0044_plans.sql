-- Planning for many partitions takes longer than looking into them, and Postgres would plan anew for each moment.
ALTER FUNCTION syncpoint.revision_as_of(text, text, timestamptz) SET plan_cache_mode = force_generic_plan;
ALTER FUNCTION syncpoint.is_certain(text, text, timestamptz, timestamptz) SET plan_cache_mode = force_generic_plan;

CREATE OR REPLACE FUNCTION syncpoint.state_as_of(
    of_set text, of_key text, at timestamptz,
    OUT document text, OUT deleted boolean, OUT effective_at timestamptz, OUT certain boolean
) RETURNS SETOF record LANGUAGE plpgsql STABLE ROWS 1 SET plan_cache_mode = force_generic_plan AS $$
DECLARE
    next record;
BEGIN
    SELECT found.document, found.deleted, found.effective_at INTO document, deleted, effective_at
        FROM syncpoint.revisions found
        WHERE found.entity_set = of_set AND found.entity_key = of_key AND found.effective_at <= at AND NOT found.unseen
        ORDER BY found.effective_at DESC, found.id DESC LIMIT 1;
    IF effective_at IS NULL THEN
        SELECT found.document, found.deleted, found.effective_at INTO document, deleted, effective_at
            FROM syncpoint.revisions_kept found
            WHERE found.entity_set = of_set AND found.entity_key = of_key AND found.effective_at <= at;
    END IF;
    IF effective_at IS NULL THEN
        RETURN;
    END IF;
    -- What comes next after a state: by the moment that can only be one that nobody saw.
    SELECT later.effective_at, later.gap, later.seen_until INTO next FROM syncpoint.revisions later
        WHERE later.entity_set = of_set AND later.entity_key = of_key AND later.effective_at > state_as_of.effective_at
            AND later.recorded_at > state_as_of.effective_at - interval '1 minute'
        ORDER BY later.effective_at, later.id LIMIT 1;
    certain := NOT FOUND OR (next.effective_at > at AND (NOT next.gap OR coalesce(next.seen_until >= at, false)));
    RETURN NEXT;
END $$;
