-- What a cutover is decided by, and how the way back is remembered.
CREATE TABLE syncpoint.verifications (
    entity_set text PRIMARY KEY,
    began_at timestamptz NOT NULL,
    number bigint NOT NULL,
    upstream bigint NOT NULL,
    mirror bigint NOT NULL,
    contents bigint NOT NULL,
    drift bigint NOT NULL,
    repaired bigint NOT NULL
);
COMMENT ON TABLE syncpoint.verifications IS 'The last whole comparison of each entity set with upstream.';
COMMENT ON COLUMN syncpoint.verifications.entity_set IS 'Name of the entity set.';
COMMENT ON COLUMN syncpoint.verifications.began_at IS 'When it began, by the proxy''s clock.';
COMMENT ON COLUMN syncpoint.verifications.number IS 'Fetch number when it began.';
COMMENT ON COLUMN syncpoint.verifications.upstream IS 'Entities that upstream showed.';
COMMENT ON COLUMN syncpoint.verifications.mirror IS 'Entities in the mirror.';
COMMENT ON COLUMN syncpoint.verifications.contents IS 'Entities whose contents were compared.';
COMMENT ON COLUMN syncpoint.verifications.drift IS 'Entities that differed.';
COMMENT ON COLUMN syncpoint.verifications.repaired IS 'Of these the ones that the mirror holds as upstream does since.';

CREATE TABLE syncpoint.computed (
    entity_set text NOT NULL,
    property text NOT NULL,
    differed bigint NOT NULL,
    changed bigint NOT NULL,
    filled bigint NOT NULL,
    last_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (entity_set, property)
);
COMMENT ON TABLE syncpoint.computed IS
    'What upstream made of writes beside what they posted, seen when each was read back.';
COMMENT ON COLUMN syncpoint.computed.entity_set IS 'Name of the entity set.';
COMMENT ON COLUMN syncpoint.computed.property IS 'Name of the property.';
COMMENT ON COLUMN syncpoint.computed.differed IS 'Writes that posted it and got another value back.';
COMMENT ON COLUMN syncpoint.computed.changed IS 'Updates that did not post it and changed it.';
COMMENT ON COLUMN syncpoint.computed.filled IS 'Creates that did not post it and gave it a value.';
COMMENT ON COLUMN syncpoint.computed.last_at IS 'When that was last counted, by the clock of Postgres.';

CREATE TABLE syncpoint.replays (
    local_write bigint PRIMARY KEY,
    entity_set text NOT NULL,
    entity_key text NOT NULL,
    sent_at timestamptz NOT NULL,
    outcome text CHECK (outcome IN ('replayed', 'refused')),
    status integer,
    message text,
    ended_at timestamptz,
    taken_over boolean NOT NULL DEFAULT false,
    CHECK ((outcome IS NULL) = (ended_at IS NULL))
);
COMMENT ON TABLE syncpoint.replays IS
    'What became upstream of the mirror''s own writes; one that is not here has not been sent to it.';
COMMENT ON COLUMN syncpoint.replays.local_write IS 'Id of the row in syncpoint.local_writes.';
COMMENT ON COLUMN syncpoint.replays.entity_set IS 'Name of the entity set.';
COMMENT ON COLUMN syncpoint.replays.entity_key IS 'Key predicate of what was written.';
COMMENT ON COLUMN syncpoint.replays.sent_at IS 'When it was last sent, by the proxy''s clock.';
COMMENT ON COLUMN syncpoint.replays.outcome IS 'How it ended; null: sent, and not known yet.';
COMMENT ON COLUMN syncpoint.replays.status IS 'Status of upstream''s answer.';
COMMENT ON COLUMN syncpoint.replays.message IS 'What upstream said where it refused.';
COMMENT ON COLUMN syncpoint.replays.ended_at IS 'When its outcome was known, by the clock of Postgres.';
COMMENT ON COLUMN syncpoint.replays.taken_over IS
    'The mirror holds since what upstream made of it; or, where it was refused, the conflict is recorded.';
