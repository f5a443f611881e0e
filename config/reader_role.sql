-- A role for new services that read the mirror's tables: they see entities, and nothing of writes, users or history.
-- Run it once as the role that the proxy connects as (it needs CREATEROLE for that), once the proxy has run:
--   psql "$SYNCPOINT_DATABASE_URL" -f config/reader_role.sql
-- Then give it to a login: GRANT syncpoint_reader TO reporting;

DO $$
BEGIN
    CREATE ROLE syncpoint_reader NOLOGIN;
EXCEPTION WHEN duplicate_object OR unique_violation THEN
    NULL;  -- roles belong to the server, and another database of it may have this one already
END
$$;

GRANT USAGE ON SCHEMA mirror TO syncpoint_reader;
GRANT SELECT ON ALL TABLES IN SCHEMA mirror TO syncpoint_reader;
-- Tables of sets that are mirrored later.
ALTER DEFAULT PRIVILEGES IN SCHEMA mirror GRANT SELECT ON TABLES TO syncpoint_reader;
