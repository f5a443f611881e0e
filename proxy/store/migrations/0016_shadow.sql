-- What shadow mode found: of each kind of query, how often the mirror would have said the same.
CREATE TABLE syncpoint.shadow (
    entity_set text NOT NULL,
    shape text NOT NULL,
    requests bigint NOT NULL,
    same bigint NOT NULL,
    different bigint NOT NULL,
    not_compared bigint NOT NULL,
    last_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (entity_set, shape)
);
COMMENT ON TABLE syncpoint.shadow IS
    'Entities in forwarded replies against what the mirror would have shown in their place, at equal stamps.';
COMMENT ON COLUMN syncpoint.shadow.entity_set IS 'Name of the entity set.';
COMMENT ON COLUMN syncpoint.shadow.shape IS 'What was read, and with which query options.';
COMMENT ON COLUMN syncpoint.shadow.requests IS 'Replies looked at.';
COMMENT ON COLUMN syncpoint.shadow.same IS 'Entities that the mirror would have shown byte for byte.';
COMMENT ON COLUMN syncpoint.shadow.different IS 'Entities that it would have shown otherwise.';
COMMENT ON COLUMN syncpoint.shadow.not_compared IS
    'Entities that it lacks, or whose stamps differ or were not shown: it would have asked upstream.';
COMMENT ON COLUMN syncpoint.shadow.last_at IS 'When a reply was looked at last, by the clock of Postgres.';

CREATE TABLE syncpoint.shadow_examples (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    entity_set text NOT NULL,
    shape text NOT NULL,
    entity_key text NOT NULL,
    request_id text NOT NULL,
    found_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    mirror text NOT NULL,
    upstream text NOT NULL
);
CREATE INDEX shadow_examples_of ON syncpoint.shadow_examples (entity_set, shape, id);
COMMENT ON TABLE syncpoint.shadow_examples IS 'The last few differing entities of each kind of query.';
COMMENT ON COLUMN syncpoint.shadow_examples.entity_set IS 'Name of the entity set.';
COMMENT ON COLUMN syncpoint.shadow_examples.shape IS 'What was read, and with which query options.';
COMMENT ON COLUMN syncpoint.shadow_examples.entity_key IS 'Key predicate in canonical form.';
COMMENT ON COLUMN syncpoint.shadow_examples.request_id IS 'Id of the request.';
COMMENT ON COLUMN syncpoint.shadow_examples.found_at IS 'When, by the clock of Postgres.';
COMMENT ON COLUMN syncpoint.shadow_examples.mirror IS 'The entity as the mirror would have shown it.';
COMMENT ON COLUMN syncpoint.shadow_examples.upstream IS 'The entity as upstream showed it.';
