-- How SQL Server compares, as immutable functions, so that expressions of them can be indexed
-- (docs/decisions/0005-comparisons-in-sql.md).

-- The letters of all scripts, whatever the database's own locale: lower() under "C" knows those of ASCII only.
DO $$
DECLARE
    definition text;
BEGIN
    FOREACH definition IN ARRAY ARRAY[
        'provider = builtin, locale = ''C.UTF-8''',
        'provider = libc, locale = ''C.UTF-8''',
        'provider = libc, locale = ''C.utf8''',
        'provider = libc, locale = ''en_US.UTF-8''',
        'provider = icu, locale = ''und'''
    ] LOOP
        BEGIN
            EXECUTE 'CREATE COLLATION syncpoint.letters (' || definition || ')';
            RETURN;
        EXCEPTION WHEN OTHERS THEN
            NULL;  -- not on this platform
        END;
    END LOOP;
    RAISE EXCEPTION 'this Postgres has no UTF-8 locale';
END
$$;

CREATE FUNCTION syncpoint.lower_case(value text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN lower(value COLLATE syncpoint.letters);
COMMENT ON FUNCTION syncpoint.lower_case IS 'The text in lower case, letter by letter.';

CREATE FUNCTION syncpoint.upper_case(value text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN upper(value COLLATE syncpoint.letters);
COMMENT ON FUNCTION syncpoint.upper_case IS 'The text in upper case, letter by letter.';

-- Not STRICT: that would keep Postgres from inlining them. Text of as many bytes as characters is ASCII, most
-- is, and the long way costs ten times as much. The marks are those that Unicode calls COMBINING.
CREATE FUNCTION syncpoint.fold_all(value text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN octet_length(value) = char_length(value) THEN lower(value COLLATE syncpoint.letters)
        ELSE replace(
            regexp_replace(
                lower(normalize(value, NFKD) COLLATE syncpoint.letters),
                '[\u0300-\u036F\u0483-\u0489\u1AB0-\u1ACE\u1DC0-\u1DFF\u20D0-\u20F0\u2DE0-\u2DFF'
                    '\u3099\u309A\uA66F-\uA672\uA674-\uA67D\uA69E\uA69F\uA8E0-\uA8F1\uFE20-\uFE2F]',
                '', 'g'),
            U&'\03C2', U&'\03C3')
        END;
COMMENT ON FUNCTION syncpoint.fold_all IS 'The text without case and accents: what LIKE compares.';

CREATE FUNCTION syncpoint.fold(value text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN rtrim(syncpoint.fold_all(value));
COMMENT ON FUNCTION syncpoint.fold IS
    'The text without case, accents and trailing blanks: what = and ORDER BY compare.';

CREATE FUNCTION syncpoint.position(value bigint) RETURNS integer LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN CASE WHEN value < 0 THEN 0 WHEN value > 2147483646 THEN 2147483646 ELSE value END;
COMMENT ON FUNCTION syncpoint.position IS 'A number of characters to skip or take; none if negative.';

CREATE FUNCTION syncpoint.guid_order(value uuid) RETURNS bytea LANGUAGE sql IMMUTABLE PARALLEL SAFE
    RETURN substr(uuid_send(value), 11, 6) || substr(uuid_send(value), 9, 2)
        || substr(uuid_send(value), 8, 1) || substr(uuid_send(value), 7, 1)
        || substr(uuid_send(value), 6, 1) || substr(uuid_send(value), 5, 1)
        || substr(uuid_send(value), 4, 1) || substr(uuid_send(value), 3, 1)
        || substr(uuid_send(value), 2, 1) || substr(uuid_send(value), 1, 1);
COMMENT ON FUNCTION syncpoint.guid_order IS 'A sort key in the order of SQL Server''s uniqueidentifier.';
