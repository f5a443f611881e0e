-- A role for new services that read the mirror's tables: they see entities, and nothing of writes, users or history.
-- Run it once, when the proxy has run, as an administrator of the server:
--   psql "$ADMINISTRATOR_URL" -f config/reader_role.sql
-- or, where you have none, as the proxy's own role, after somebody has made the role: CREATE ROLE syncpoint_reader.
-- Then give it to a login: GRANT syncpoint_reader TO reporting;

DO $$
DECLARE
    proxy name;
    readable name;
BEGIN
    -- Roles belong to the server, and another database of it may have this one already.
    IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = 'syncpoint_reader') THEN
        BEGIN
            CREATE ROLE syncpoint_reader NOLOGIN;
        EXCEPTION WHEN duplicate_object OR unique_violation THEN
            NULL;  -- made by somebody else at the same moment
        END;
    END IF;
    -- `mirror`: the entity sets. `model`: the views of models (docs/models.md).
    FOREACH readable IN ARRAY ARRAY['mirror', 'model'] LOOP
        SELECT pg_get_userbyid(nspowner) INTO STRICT proxy FROM pg_namespace WHERE nspname = readable;
        EXECUTE format('GRANT USAGE ON SCHEMA %I TO syncpoint_reader', readable);
        EXECUTE format('GRANT SELECT ON ALL TABLES IN SCHEMA %I TO syncpoint_reader', readable);
        -- What the proxy makes later: tables of sets that are mirrored then, and views that it replaces.
        EXECUTE format(
            'ALTER DEFAULT PRIVILEGES FOR ROLE %I IN SCHEMA %I GRANT SELECT ON TABLES TO syncpoint_reader',
            proxy, readable
        );
    END LOOP;
END
$$;
