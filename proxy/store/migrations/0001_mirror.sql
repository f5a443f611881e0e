-- The schema `mirror` holds one table per entity set; they are made from the metadata document when a
-- set is first used (proxy/store/tables.py), not here.
CREATE SCHEMA IF NOT EXISTS mirror;
COMMENT ON SCHEMA mirror IS
    'The mirror of upstream: one table per entity set, one row per entity. Rows whose document is null '
    'are tombstones (deleted_at set) or marks of a write under way; leave them out.';

CREATE SEQUENCE syncpoint.fetch_number AS bigint;
COMMENT ON SEQUENCE syncpoint.fetch_number IS
    'Drawn before each fetch is sent; what is stored gives way only to a higher number.';

CREATE TABLE syncpoint.names (
    entity_set text NOT NULL,
    path text NOT NULL,
    edm_type text NOT NULL,
    name text NOT NULL,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    dropped_at timestamptz,
    PRIMARY KEY (entity_set, path, edm_type)
);
COMMENT ON TABLE syncpoint.names IS
    'Which table and column in the schema mirror holds what. Written when a table is made or grows.';
COMMENT ON COLUMN syncpoint.names.entity_set IS 'Name of the entity set in the metadata document.';
COMMENT ON COLUMN syncpoint.names.path IS
    'Property path, its members joined by a slash (PrimaryContactId/Id); empty for the table itself.';
COMMENT ON COLUMN syncpoint.names.edm_type IS 'Primitive type of the property; empty for the table itself.';
COMMENT ON COLUMN syncpoint.names.name IS
    'Table or column name in the schema mirror; differs from the path where that is too long or taken.';
COMMENT ON COLUMN syncpoint.names.made_at IS 'When the table or column was made.';
COMMENT ON COLUMN syncpoint.names.dropped_at IS
    'When the property was first missing in the metadata document; its column is kept. Null: in use.';

CREATE TABLE syncpoint.revisions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    entity_set text NOT NULL,
    entity_key text NOT NULL,
    fetch_number bigint NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    source text NOT NULL CHECK (source IN ('client write', 'upstream refresh', 'settlement')),
    user_name text,
    client text,
    request_id text NOT NULL,
    method text,
    document text,
    unseen boolean NOT NULL DEFAULT false,
    deleted boolean NOT NULL DEFAULT false
);
CREATE INDEX revisions_of_entity ON syncpoint.revisions (entity_set, entity_key, id);
COMMENT ON TABLE syncpoint.revisions IS
    'Every recorded state of every entity, never changed afterwards. Written in the transaction that '
    'changes the mirror.';
COMMENT ON COLUMN syncpoint.revisions.entity_set IS 'Name of the entity set.';
COMMENT ON COLUMN syncpoint.revisions.entity_key IS 'Key predicate in canonical form, without brackets.';
COMMENT ON COLUMN syncpoint.revisions.fetch_number IS 'Number of the fetch that showed the state.';
COMMENT ON COLUMN syncpoint.revisions.recorded_at IS 'When it was recorded, by the clock of Postgres.';
COMMENT ON COLUMN syncpoint.revisions.source IS 'Why it was recorded.';
COMMENT ON COLUMN syncpoint.revisions.user_name IS 'Who asked, as far as known.';
COMMENT ON COLUMN syncpoint.revisions.client IS 'Where the request came from, as far as known.';
COMMENT ON COLUMN syncpoint.revisions.request_id IS 'Id of the request that led to it.';
COMMENT ON COLUMN syncpoint.revisions.method IS 'HTTP method of the write; null where it was none.';
COMMENT ON COLUMN syncpoint.revisions.document IS
    'The entity as upstream wrote it, origins as placeholders; what was posted where unseen; null where '
    'deleted.';
COMMENT ON COLUMN syncpoint.revisions.unseen IS
    'The state itself was never seen: document is what the write posted.';
COMMENT ON COLUMN syncpoint.revisions.deleted IS 'The entity ceased to exist.';

CREATE TABLE syncpoint.intents (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    method text NOT NULL,
    entity_set text NOT NULL,
    entity_key text,
    touched jsonb NOT NULL,
    body bytea NOT NULL,
    content_type text NOT NULL,
    before bytea,
    source text NOT NULL,
    user_name text,
    client text,
    request_id text NOT NULL,
    opened_at timestamptz NOT NULL,
    fetch_number bigint NOT NULL,
    closed_at timestamptz,
    outcome text CHECK (outcome IN ('applied', 'refused', 'undetermined')),
    CHECK ((closed_at IS NULL) = (outcome IS NULL))
);
CREATE INDEX intents_open ON syncpoint.intents (entity_set, entity_key, id) WHERE closed_at IS NULL;
COMMENT ON TABLE syncpoint.intents IS
    'One row per write sent upstream: committed before it leaves, closed when its outcome is known.';
COMMENT ON COLUMN syncpoint.intents.method IS 'HTTP method in effect (X-HTTP-Method applied).';
COMMENT ON COLUMN syncpoint.intents.entity_set IS 'Name of the entity set written to.';
COMMENT ON COLUMN syncpoint.intents.entity_key IS 'Key predicate of the target; null for a create.';
COMMENT ON COLUMN syncpoint.intents.touched IS
    'Other entities that the write is known to change: [[entity set, key predicate], …].';
COMMENT ON COLUMN syncpoint.intents.body IS 'What the client posted, as it came.';
COMMENT ON COLUMN syncpoint.intents.content_type IS 'Its media type.';
COMMENT ON COLUMN syncpoint.intents.before IS
    'Content digest of the target just before the write; null where it was not known.';
COMMENT ON COLUMN syncpoint.intents.source IS 'Why a revision of it is recorded.';
COMMENT ON COLUMN syncpoint.intents.user_name IS 'Who asked, as far as known.';
COMMENT ON COLUMN syncpoint.intents.client IS 'Where the request came from, as far as known.';
COMMENT ON COLUMN syncpoint.intents.request_id IS 'Id of the request.';
COMMENT ON COLUMN syncpoint.intents.opened_at IS 'When the write was about to be sent, by the proxy''s clock.';
COMMENT ON COLUMN syncpoint.intents.fetch_number IS 'Drawn when it was opened.';
COMMENT ON COLUMN syncpoint.intents.closed_at IS 'When its outcome was known, by the clock of Postgres.';
COMMENT ON COLUMN syncpoint.intents.outcome IS 'How the write ended; null while open.';

CREATE TABLE syncpoint.conflicts (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    entity_set text NOT NULL,
    entity_key text NOT NULL,
    held_fetch_number bigint NOT NULL,
    held_modified_on timestamp,
    held_version_number bigint,
    held_etag text,
    held_document text,
    seen_fetch_number bigint NOT NULL,
    seen_modified_on timestamp,
    seen_version_number bigint,
    seen_etag text,
    seen_document text,
    found_at timestamptz NOT NULL,
    request_id text NOT NULL,
    settled_at timestamptz
);
CREATE UNIQUE INDEX conflicts_open ON syncpoint.conflicts (entity_set, entity_key) WHERE settled_at IS NULL;
COMMENT ON TABLE syncpoint.conflicts IS
    'The mirror was newer than upstream: both sides as they were. Written when found; settled by the '
    'next state that is stored.';
COMMENT ON COLUMN syncpoint.conflicts.entity_set IS 'Name of the entity set.';
COMMENT ON COLUMN syncpoint.conflicts.entity_key IS 'Key predicate in canonical form, without brackets.';
COMMENT ON COLUMN syncpoint.conflicts.held_fetch_number IS 'Fetch number of what the mirror held.';
COMMENT ON COLUMN syncpoint.conflicts.held_modified_on IS 'Its ModifiedOn, UTC.';
COMMENT ON COLUMN syncpoint.conflicts.held_version_number IS 'Its VersionNumber.';
COMMENT ON COLUMN syncpoint.conflicts.held_etag IS 'Its ETag.';
COMMENT ON COLUMN syncpoint.conflicts.held_document IS 'The entity as the mirror held it.';
COMMENT ON COLUMN syncpoint.conflicts.seen_fetch_number IS 'Number of the fetch that upstream answered.';
COMMENT ON COLUMN syncpoint.conflicts.seen_modified_on IS 'ModifiedOn it showed, UTC.';
COMMENT ON COLUMN syncpoint.conflicts.seen_version_number IS 'VersionNumber it showed.';
COMMENT ON COLUMN syncpoint.conflicts.seen_etag IS 'ETag it showed.';
COMMENT ON COLUMN syncpoint.conflicts.seen_document IS 'The entity as upstream showed it.';
COMMENT ON COLUMN syncpoint.conflicts.found_at IS 'When it was found, by the proxy''s clock.';
COMMENT ON COLUMN syncpoint.conflicts.request_id IS 'Id of the request that found it.';
COMMENT ON COLUMN syncpoint.conflicts.settled_at IS 'When it ended, by the clock of Postgres; null while open.';

CREATE TABLE syncpoint.set_states (
    entity_set text PRIMARY KEY,
    title text,
    proven text[] NOT NULL,
    forward_reason text,
    lies integer NOT NULL,
    hits_audited integer NOT NULL
);
COMMENT ON TABLE syncpoint.set_states IS 'What the proxy has learned about each entity set.';
COMMENT ON COLUMN syncpoint.set_states.entity_set IS 'Name of the entity set.';
COMMENT ON COLUMN syncpoint.set_states.title IS
    'Property that titles of Atom entries show; empty where they are always empty; null while unknown.';
COMMENT ON COLUMN syncpoint.set_states.proven IS
    'Forms (entry, feed) in which our Atom equalled upstream''s byte for byte.';
COMMENT ON COLUMN syncpoint.set_states.forward_reason IS
    'Why the set is never served from the mirror; null where it is.';
COMMENT ON COLUMN syncpoint.set_states.lies IS 'How often content was found changed under an equal stamp.';
COMMENT ON COLUMN syncpoint.set_states.hits_audited IS 'How many hits were fetched all the same, to see.';

CREATE TABLE syncpoint.metadata_versions (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    document bytea NOT NULL,
    digest bytea NOT NULL,
    seen_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE syncpoint.metadata_versions IS 'The metadata documents that upstream has shown, newest last.';
COMMENT ON COLUMN syncpoint.metadata_versions.document IS 'The document, byte for byte.';
COMMENT ON COLUMN syncpoint.metadata_versions.digest IS 'SHA-256 of it.';
COMMENT ON COLUMN syncpoint.metadata_versions.seen_at IS 'When it was first seen, by the clock of Postgres.';
