-- A lookup shows the name of what it refers to, and that may change without moving the stamp of the entity that holds
-- the lookup. One row here, not one for each of those: who was fetched before it, is fetched again when next read.
CREATE TABLE syncpoint.renames (
    id uuid PRIMARY KEY,
    fetch_number bigint NOT NULL
);
CREATE INDEX renames_number ON syncpoint.renames (fetch_number);
COMMENT ON TABLE syncpoint.renames IS
    'Entities whose name changed. Lookups that refer to them and were fetched before show the old one.';
COMMENT ON COLUMN syncpoint.renames.id IS 'Key of the entity.';
COMMENT ON COLUMN syncpoint.renames.fetch_number IS 'Number of the fetch that showed the last new name.';
