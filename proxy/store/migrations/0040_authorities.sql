-- Who decides what is true of an entity set. A set without a row is upstream's, epoch 0.
CREATE TABLE syncpoint.authorities (
    entity_set text PRIMARY KEY,
    authority text NOT NULL CHECK (authority IN ('upstream', 'moving', 'mirror')),
    answers text NOT NULL CHECK (answers IN ('upstream', 'mirror')),
    epoch bigint NOT NULL,
    since timestamptz NOT NULL DEFAULT clock_timestamp(),
    by text NOT NULL,
    CHECK (authority IN ('moving', answers))
);
COMMENT ON TABLE syncpoint.authorities IS
    'Who decides what is true of each entity set that was ever cut over; all others are upstream''s.';
COMMENT ON COLUMN syncpoint.authorities.entity_set IS 'Name of the entity set.';
COMMENT ON COLUMN syncpoint.authorities.authority IS 'moving: between the two, writes wait.';
COMMENT ON COLUMN syncpoint.authorities.answers IS 'Whose state reads show; while moving, that of before.';
COMMENT ON COLUMN syncpoint.authorities.epoch IS
    'Rises with every change. A write names the epoch that it saw, and is not begun under another.';
COMMENT ON COLUMN syncpoint.authorities.since IS 'When it last changed, by the clock of Postgres.';
COMMENT ON COLUMN syncpoint.authorities.by IS 'Who changed it.';

CREATE FUNCTION syncpoint.are_epochs(sets text[], epochs bigint[]) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    -- The lock comes first: what is read behind it stays true until the transaction ends, rows that are not
    -- there included.
    LOCK TABLE syncpoint.authorities IN ROW SHARE MODE;
    RETURN NOT EXISTS (
        SELECT FROM unnest(sets, epochs) AS seen (entity_set, epoch)
            LEFT JOIN syncpoint.authorities held USING (entity_set)
        WHERE coalesce(held.epoch, 0) <> seen.epoch
    );
END $$;
COMMENT ON FUNCTION syncpoint.are_epochs IS
    'Whether these are the sets'' epochs; if so, they are until the transaction ends.';

CREATE FUNCTION syncpoint.move_authorities(
    sets text[], epochs bigint[], new_authority text, new_answers text, who text
) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    -- Waits for every transaction that has asked for epochs.
    LOCK TABLE syncpoint.authorities IN EXCLUSIVE MODE;
    IF NOT syncpoint.are_epochs(sets, epochs) THEN
        RETURN false;
    END IF;
    INSERT INTO syncpoint.authorities AS held (entity_set, authority, answers, epoch, by)
        SELECT entity_set, new_authority, new_answers, epoch + 1, who
        FROM unnest(sets, epochs) AS seen (entity_set, epoch)
    ON CONFLICT (entity_set) DO UPDATE SET authority = excluded.authority, answers = excluded.answers,
        epoch = excluded.epoch, since = clock_timestamp(), by = excluded.by;
    RETURN true;
END $$;
COMMENT ON FUNCTION syncpoint.move_authorities IS
    'Gives all these sets to another authority at once; false where one of the epochs is not what it was.';

ALTER TABLE syncpoint.intents ADD COLUMN written text[];
COMMENT ON COLUMN syncpoint.intents.written IS
    'Names of the entity sets that the write writes to; null where it began before this was recorded.';
