-- The change feed tells changes in the order of their commits. A transaction draws its place in it at the last
-- moment before it commits, whatever numbers it drew before: from a trigger that is deferred to that moment.

CREATE SEQUENCE syncpoint.commit_number AS bigint;
CREATE TABLE syncpoint.commits (
    transaction xid8 PRIMARY KEY,
    number bigint
);
CREATE INDEX commits_number ON syncpoint.commits (number);
COMMENT ON TABLE syncpoint.commits IS 'The transactions that recorded revisions, in the order of their commits.';
COMMENT ON COLUMN syncpoint.commits.transaction IS 'As revisions name it.';
COMMENT ON COLUMN syncpoint.commits.number IS
    'Drawn when the commit began: that of one which had ended by then is lower.';

INSERT INTO syncpoint.commits (transaction, number)
SELECT transaction, nextval('syncpoint.commit_number')
FROM (SELECT transaction FROM syncpoint.revisions GROUP BY transaction ORDER BY min(id)) known;

CREATE FUNCTION syncpoint.note_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO syncpoint.commits (transaction) VALUES (pg_current_xact_id()) ON CONFLICT DO NOTHING;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION syncpoint.note_commit IS 'Says that this transaction records revisions.';
CREATE FUNCTION syncpoint.number_commit() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE syncpoint.commits SET number = nextval('syncpoint.commit_number') WHERE transaction = NEW.transaction;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION syncpoint.number_commit IS 'Gives this transaction its place among all commits.';
CREATE TRIGGER revisions_recorded AFTER INSERT ON syncpoint.revisions
    FOR EACH STATEMENT EXECUTE FUNCTION syncpoint.note_commit();
CREATE CONSTRAINT TRIGGER commit_numbered AFTER INSERT ON syncpoint.commits
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION syncpoint.number_commit();

CREATE FUNCTION syncpoint.forget_commits() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    DELETE FROM syncpoint.commits WHERE transaction <= NEW.dropped;
    RETURN NULL;
END $$;
COMMENT ON FUNCTION syncpoint.forget_commits IS 'What no cursor reads any more has no place to keep.';
CREATE TRIGGER feed_dropped AFTER UPDATE OF dropped ON syncpoint.feed
    FOR EACH ROW EXECUTE FUNCTION syncpoint.forget_commits();
