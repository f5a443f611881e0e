-- How long values lie in their tables. New mirror tables are made this way (proxy/store/set_table.py).
DO $$
DECLARE
    part regclass;
BEGIN
    FOR part IN SELECT oid FROM pg_class WHERE relnamespace = 'mirror'::regnamespace AND relkind = 'r' LOOP
        EXECUTE format('ALTER TABLE %s SET (toast_tuple_target = 4080)', part);
    END LOOP;
    -- Several times as fast as Postgres' own compression, where the server was built with it.
    IF (SELECT 'lz4' = ANY (enumvals) FROM pg_settings WHERE name = 'default_toast_compression') THEN
        FOR part IN SELECT relid FROM pg_partition_tree('syncpoint.revisions')
            UNION ALL SELECT 'syncpoint.revisions_kept'::regclass LOOP
            EXECUTE format('ALTER TABLE %s ALTER COLUMN document SET COMPRESSION lz4', part);
        END LOOP;
    END IF;
END $$;
