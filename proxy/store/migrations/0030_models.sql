CREATE SCHEMA IF NOT EXISTS model;
COMMENT ON SCHEMA model IS
    'One view per model of the configuration: the mirror under the names that new services chose. The views '
    'follow the configuration at each start of the proxy (docs/models.md).';

CREATE TABLE syncpoint.models (
    name text PRIMARY KEY,
    definition text NOT NULL,
    made_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE syncpoint.models IS 'The views in the schema model that the proxy made.';
COMMENT ON COLUMN syncpoint.models.name IS 'Name of the model and of its view.';
COMMENT ON COLUMN syncpoint.models.definition IS
    'The statements that made the view; it is made again where the configuration comes to others.';
COMMENT ON COLUMN syncpoint.models.made_at IS 'When, by the clock of Postgres.';

CREATE TABLE syncpoint.own_values (
    model text NOT NULL,
    entity_key text NOT NULL,
    kept jsonb NOT NULL,
    changed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (model, entity_key)
);
COMMENT ON TABLE syncpoint.own_values IS
    'What only the mirror keeps: properties that models add to upstream''s entities, and the entities of '
    'models without an entity set. Nothing here is lost when the configuration stops to name it.';
COMMENT ON COLUMN syncpoint.own_values.model IS
    'Name of the model, and behind a slash that of its entity set, if it has one.';
COMMENT ON COLUMN syncpoint.own_values.entity_key IS 'The entity''s key, as text.';
COMMENT ON COLUMN syncpoint.own_values.kept IS
    'The values by "property:EDM type": after a change of type the old values are still there.';
COMMENT ON COLUMN syncpoint.own_values.changed_at IS 'When it last changed, by the clock of Postgres.';
