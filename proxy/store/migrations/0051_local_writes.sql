-- What clients wrote to entity sets whose authority is the mirror.
CREATE TABLE syncpoint.local_writes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    entity_set text NOT NULL,
    entity_key text NOT NULL,
    operation text NOT NULL,
    method text NOT NULL,
    path text NOT NULL,
    body bytea NOT NULL,
    content_type text NOT NULL,
    posted text NOT NULL,
    changeset text,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    user_name text,
    client text,
    request_id text NOT NULL
);
CREATE INDEX local_writes_of ON syncpoint.local_writes (entity_set, id);
COMMENT ON TABLE syncpoint.local_writes IS
    'Writes of clients that the mirror carried out by itself, one row each, to be sent to upstream on the way back.';
COMMENT ON COLUMN syncpoint.local_writes.id IS 'Rises; of two writes to one entity the later has the higher one.';
COMMENT ON COLUMN syncpoint.local_writes.entity_set IS 'Name of the set of what was written; of links, their source.';
COMMENT ON COLUMN syncpoint.local_writes.entity_key IS
    'Key predicate in canonical form, of what a create made too: there the mirror chose it, and the body lacks it.';
COMMENT ON COLUMN syncpoint.local_writes.operation IS 'What it was: CreateEntity, MergeEntity, ChangeLinks and so on.';
COMMENT ON COLUMN syncpoint.local_writes.method IS 'HTTP method, after tunnelling.';
COMMENT ON COLUMN syncpoint.local_writes.path IS
    'Raw path below the service root, keys in the place of a changeset''s references.';
COMMENT ON COLUMN syncpoint.local_writes.body IS 'What the client sent, with upstream''s origin in its links.';
COMMENT ON COLUMN syncpoint.local_writes.content_type IS 'Of the body.';
COMMENT ON COLUMN syncpoint.local_writes.posted IS 'The properties in the body as verbose JSON; empty where it has none.';
COMMENT ON COLUMN syncpoint.local_writes.changeset IS 'The same for all writes of one changeset; null outside of one.';
COMMENT ON COLUMN syncpoint.local_writes.made_at IS 'When, by the clock of Postgres.';
COMMENT ON COLUMN syncpoint.local_writes.user_name IS 'Who asked, where that is known.';
COMMENT ON COLUMN syncpoint.local_writes.client IS 'The address that asked.';
COMMENT ON COLUMN syncpoint.local_writes.request_id IS 'Id of the request.';

-- Numbers for VersionNumber, above all that upstream has given.
CREATE SEQUENCE syncpoint.version_number;
COMMENT ON SEQUENCE syncpoint.version_number IS 'VersionNumber of what the mirror writes by itself.';

ALTER TABLE syncpoint.revisions DROP CONSTRAINT revisions_source;
ALTER TABLE syncpoint.revisions ADD CONSTRAINT revisions_source CHECK (source IN ('client write',
    'upstream refresh', 'settlement', 'poll', 'backfill', 'sweep', 'comparison', 'local write'));
