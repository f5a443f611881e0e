-- What background work remembers: leases, how far it has come, and what it asks the operator.

CREATE TABLE syncpoint.leases (
    name text PRIMARY KEY,
    holder text NOT NULL,
    fence bigint NOT NULL,
    expires_at timestamptz NOT NULL
);
COMMENT ON TABLE syncpoint.leases IS
    'Who may do alone what must be done by one process at a time. Every transaction of the holder locks '
    'its row and compares the fence.';
COMMENT ON COLUMN syncpoint.leases.name IS 'What is done.';
COMMENT ON COLUMN syncpoint.leases.holder IS 'The process, by a name that it chose when it started.';
COMMENT ON COLUMN syncpoint.leases.fence IS 'Rises with every new holder.';
COMMENT ON COLUMN syncpoint.leases.expires_at IS 'When it may be taken over, by the clock of Postgres.';

ALTER TABLE syncpoint.intents ADD COLUMN holder text NOT NULL DEFAULT '';
COMMENT ON COLUMN syncpoint.intents.holder IS
    'The process that sends the write. While its lease lives it may still be at work.';

ALTER TABLE syncpoint.names ADD COLUMN since bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN syncpoint.names.since IS
    'Fetch number when a later metadata document brought or dropped it: documents fetched before lack or '
    'show what they should not. 0: as old as the table.';

ALTER TABLE syncpoint.revisions DROP CONSTRAINT revisions_source_check;
ALTER TABLE syncpoint.revisions ADD CONSTRAINT revisions_source_check CHECK (
    source IN ('client write', 'upstream refresh', 'settlement', 'poll', 'backfill', 'sweep', 'comparison')
);

CREATE TABLE syncpoint.walks (
    stage text NOT NULL CHECK (stage IN ('backfill', 'sweep')),
    entity_set text NOT NULL,
    started_at timestamptz NOT NULL,
    upstream_started_at timestamptz,
    next_target text,
    rows bigint NOT NULL,
    last_key text,
    finished_at timestamptz,
    PRIMARY KEY (stage, entity_set),
    CHECK ((next_target IS NULL) = (finished_at IS NOT NULL))
);
COMMENT ON TABLE syncpoint.walks IS 'The last way through each entity set, page by page.';
COMMENT ON COLUMN syncpoint.walks.stage IS 'Why: its first load, or the search for deletes.';
COMMENT ON COLUMN syncpoint.walks.entity_set IS 'Name of the entity set.';
COMMENT ON COLUMN syncpoint.walks.started_at IS 'When its first page was sent for, by the proxy''s clock.';
COMMENT ON COLUMN syncpoint.walks.upstream_started_at IS 'The same at the earliest by upstream''s clock.';
COMMENT ON COLUMN syncpoint.walks.next_target IS 'Request target of the page to come; null: through.';
COMMENT ON COLUMN syncpoint.walks.rows IS 'Entities that the pages have shown.';
COMMENT ON COLUMN syncpoint.walks.last_key IS 'Key predicate of the last of them.';
COMMENT ON COLUMN syncpoint.walks.finished_at IS 'When the last page was done, by the proxy''s clock.';

CREATE TABLE syncpoint.following (
    entity_set text PRIMARY KEY,
    watermark timestamp NOT NULL,
    since timestamptz NOT NULL,
    polled_at timestamptz NOT NULL,
    looked_back_at timestamptz NOT NULL,
    swept_at timestamptz
);
COMMENT ON TABLE syncpoint.following IS 'How far the changes of each entity set have been followed.';
COMMENT ON COLUMN syncpoint.following.entity_set IS 'Name of the entity set.';
COMMENT ON COLUMN syncpoint.following.watermark IS
    'On upstream''s clock, UTC: every change stamped earlier has been seen.';
COMMENT ON COLUMN syncpoint.following.since IS 'What was fetched from then on has been followed without a gap.';
COMMENT ON COLUMN syncpoint.following.polled_at IS 'When the last whole poll began, by the proxy''s clock.';
COMMENT ON COLUMN syncpoint.following.looked_back_at IS
    'When a poll last looked further back than the overlap, by the proxy''s clock.';
COMMENT ON COLUMN syncpoint.following.swept_at IS
    'When the last whole sweep for deletes began, by the proxy''s clock.';

CREATE TABLE syncpoint.missing (
    entity_set text NOT NULL,
    entity_key text NOT NULL,
    PRIMARY KEY (entity_set, entity_key)
);
COMMENT ON TABLE syncpoint.missing IS
    'Entities that a sweep did not find in upstream''s list; each is asked for by its own URL.';
COMMENT ON COLUMN syncpoint.missing.entity_set IS 'Name of the entity set.';
COMMENT ON COLUMN syncpoint.missing.entity_key IS 'Key predicate in canonical form, without brackets.';

CREATE TABLE syncpoint.findings (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    entity_set text NOT NULL,
    kind text NOT NULL,
    detail text NOT NULL,
    found_at timestamptz NOT NULL,
    accepted boolean,
    spent boolean NOT NULL DEFAULT false
);
CREATE UNIQUE INDEX findings_open ON syncpoint.findings (entity_set) WHERE accepted IS NULL;
COMMENT ON TABLE syncpoint.findings IS
    'Results of sweeps that nobody believes before the operator has said so.';
COMMENT ON COLUMN syncpoint.findings.entity_set IS 'Name of the entity set: its sweep waits.';
COMMENT ON COLUMN syncpoint.findings.kind IS 'empty, or many missing.';
COMMENT ON COLUMN syncpoint.findings.detail IS 'What was found, in a sentence.';
COMMENT ON COLUMN syncpoint.findings.found_at IS 'When, by the proxy''s clock.';
COMMENT ON COLUMN syncpoint.findings.accepted IS
    'The operator''s answer: true, look for each and believe it; false, look again; null, none yet.';
COMMENT ON COLUMN syncpoint.findings.spent IS 'A sweep has gone by the answer: it holds no longer.';
