CREATE INDEX intents_creates_unsettled ON syncpoint.intents (entity_set, opened_at)
    WHERE entity_key IS NULL AND (outcome IS NULL OR outcome = 'undetermined');
