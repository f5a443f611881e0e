-- What documents of the past hold, as the columns of the mirror's tables would: queries as of a moment read by it.
-- What does not fit its type is null there: the property may have had another one then.

CREATE FUNCTION syncpoint.content_of(document text) RETURNS jsonb
LANGUAGE plpgsql IMMUTABLE STRICT PARALLEL SAFE AS $$
BEGIN
    document := translate(document, E'\x01\x02', '');  -- they stand for origins
    IF document ~ '\\u(0000|[dD][89a-fA-F])' THEN
        -- What no text can hold becomes U+FFFD. Escaped backslashes and pairs of surrogates step aside for it.
        document := replace(document, '\\', E'\x01');
        document := regexp_replace(document,
            '\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})', E'\x02\\1\x02\\2', 'g');
        document := regexp_replace(document, '\\u(0000|[dD][89a-fA-F][0-9a-fA-F]{2})', U&'\FFFD', 'g');
        document := replace(replace(document, E'\x02', '\u'), E'\x01', '\\');
    END IF;
    RETURN document::jsonb;
END $$;
COMMENT ON FUNCTION syncpoint.content_of IS 'A document''s members, whatever its strings hold.';

CREATE FUNCTION syncpoint.instant_of(written text) RETURNS timestamp LANGUAGE plpgsql STABLE STRICT AS $$
DECLARE
    milliseconds bigint := substring(written FROM '^/Date\((-?[0-9]{1,18})([+-][0-9]{4})?\)/$');
    reading text;
BEGIN
    IF milliseconds IS NOT NULL THEN  -- by days: an interval times a number is not exact
        RETURN timestamp 'epoch' + (milliseconds / 86400000)::integer * interval '1 day'
            + (milliseconds % 86400000)::integer * interval '1 millisecond';
    END IF;
    reading := substring(written FROM '^([0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?)?)');
    RETURN reading::timestamp - coalesce(substring(written FROM '[T].*([+-][0-9]{2}:[0-9]{2})$')::interval, '0');
END $$;
COMMENT ON FUNCTION syncpoint.instant_of IS
    'An Edm.DateTime in verbose JSON, or in ISO 8601; digits beyond the microsecond are dropped.';

CREATE FUNCTION syncpoint.offset_instant_of(written text) RETURNS timestamptz LANGUAGE sql STABLE STRICT AS $$
    -- The milliseconds of such a value count its own clock, and the offset behind them minutes.
    SELECT (syncpoint.instant_of(written) AT TIME ZONE 'UTC')
        - coalesce(substring(written FROM '([+-][0-9]{4})\)/$')::integer, 0) * interval '1 minute'
$$;
COMMENT ON FUNCTION syncpoint.offset_instant_of IS 'An Edm.DateTimeOffset in verbose JSON, or in ISO 8601.';

CREATE FUNCTION syncpoint.duration_of(written text) RETURNS interval LANGUAGE sql STABLE STRICT AS $$
    SELECT CASE WHEN written ~ '^-?P[0-9DTHMS.]+$' THEN
        CASE WHEN left(written, 1) = '-' THEN -1 ELSE 1 END
        * regexp_replace(ltrim(written, '-'), '(\.[0-9]{6})[0-9]+', '\1')::interval END
$$;
COMMENT ON FUNCTION syncpoint.duration_of IS 'An Edm.Time.';

CREATE FUNCTION syncpoint.whole_of(written text) RETURNS numeric LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT CASE WHEN written ~ '^[+-]?[0-9]{1,20}$' THEN written::numeric END
$$;
COMMENT ON FUNCTION syncpoint.whole_of IS 'A whole number of any width.';

CREATE FUNCTION syncpoint.number_of(written text) RETURNS numeric LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT CASE WHEN written ~ '^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$' THEN written::numeric END
$$;
COMMENT ON FUNCTION syncpoint.number_of IS 'An Edm.Decimal.';

CREATE FUNCTION syncpoint.real_of(written text) RETURNS double precision LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT CASE WHEN written ~ '^[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,3})?$' OR written ~ '^(-?INF|NaN)$'
        THEN written::double precision END
$$;
COMMENT ON FUNCTION syncpoint.real_of IS 'An Edm.Double or Edm.Single.';

CREATE FUNCTION syncpoint.guid_of(written text) RETURNS uuid LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT CASE WHEN written ~ '^\{?[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}\}?$' THEN written::uuid END
$$;
COMMENT ON FUNCTION syncpoint.guid_of IS 'An Edm.Guid.';

CREATE FUNCTION syncpoint.truth_of(written text) RETURNS boolean LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT CASE written WHEN 'true' THEN true WHEN 'false' THEN false END
$$;
COMMENT ON FUNCTION syncpoint.truth_of IS 'An Edm.Boolean.';

CREATE FUNCTION syncpoint.bytes_of(written text) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT AS $$
    SELECT CASE WHEN written ~ '^[A-Za-z0-9+/\s]*={0,2}\s*$' THEN decode(written, 'base64') END
$$;
COMMENT ON FUNCTION syncpoint.bytes_of IS 'An Edm.Binary.';

CREATE FUNCTION syncpoint.is_certain(of_set text, of_key text, since timestamptz, at timestamptz) RETURNS boolean
LANGUAGE plpgsql STABLE COST 10000 AS $$
DECLARE
    next record;
BEGIN
    PERFORM FROM syncpoint.history
        WHERE entity_set = of_set AND entity_key = of_key AND unseen AND effective_at > since AND effective_at <= at
        LIMIT 1;
    IF FOUND THEN
        RETURN false;
    END IF;
    SELECT gap, seen_until INTO next FROM syncpoint.history
        WHERE entity_set = of_set AND entity_key = of_key AND effective_at > at
        ORDER BY effective_at, id LIMIT 1;
    RETURN NOT FOUND OR NOT next.gap OR coalesce(next.seen_until >= at, false);
END $$;
COMMENT ON FUNCTION syncpoint.is_certain IS
    'Whether a state that held since then is known to have held at that moment: no other was seen to begin in '
    'between without being seen, and none may have passed unseen before the next one.';
