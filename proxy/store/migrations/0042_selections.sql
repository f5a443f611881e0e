-- Shadow mode also compares which entities a reply shows, and in which order, with what the mirror finds.
ALTER TABLE syncpoint.shadow
    ADD COLUMN alike bigint NOT NULL DEFAULT 0,
    ADD COLUMN unlike bigint NOT NULL DEFAULT 0,
    ADD COLUMN unsure bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN syncpoint.shadow.alike IS 'Pages for which the mirror finds the same entities in the same order.';
COMMENT ON COLUMN syncpoint.shadow.unlike IS
    'Pages for which it finds others or another order, among entities of equal stamps.';
COMMENT ON COLUMN syncpoint.shadow.unsure IS
    'Pages of which that cannot be said: the mirror lacks entities, their stamps differ or were not shown.';
ALTER TABLE syncpoint.shadow_examples
    ADD COLUMN kind text NOT NULL DEFAULT 'content'
        CONSTRAINT shadow_examples_kind CHECK (kind IN ('content', 'mirror only', 'upstream only', 'order')),
    ADD COLUMN query text;
COMMENT ON COLUMN syncpoint.shadow_examples.kind IS
    'content: the entity itself differs; mirror only, upstream only: the query finds it there alone; order: it '
    'stands elsewhere.';
COMMENT ON COLUMN syncpoint.shadow_examples.query IS 'The request''s query, where that finds otherwise.';
