"""The tables of the schema `syncpoint`, as Core sees them; `migrations/` makes and explains them."""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Integer,
    LargeBinary,
    MetaData,
    Sequence,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.types import UserDefinedType

_METADATA = MetaData(schema="syncpoint")
_INSTANT = DateTime(timezone=True)


class Xid(UserDefinedType[str]):
    """xid8: the number of a transaction."""

    def get_col_spec(self, **_: Any) -> str:
        return "xid8"


class Snapshot(UserDefinedType[str]):
    """pg_snapshot: which transactions are seen."""

    def get_col_spec(self, **_: Any) -> str:
        return "pg_snapshot"


FETCH_NUMBER = Sequence("fetch_number", schema="syncpoint")
VERSION_NUMBER = Sequence("version_number", schema="syncpoint")

NAMES = Table(
    "names",
    _METADATA,
    Column("entity_set", Text),
    Column("path", Text),
    Column("edm_type", Text),
    Column("name", Text),
    Column("dropped_at", _INSTANT),
    Column("since", BigInteger),
)


def _history(name: str) -> Table:
    return Table(
        name,
        _METADATA,
        Column("id", BigInteger),
        Column("transaction", Xid),
        Column("entity_set", Text),
        Column("entity_key", Text),
        Column("fetch_number", BigInteger),
        Column("recorded_at", _INSTANT),
        Column("effective_at", _INSTANT),
        Column("seen_until", _INSTANT),
        Column("source", Text),
        Column("user_name", Text),
        Column("client", Text),
        Column("request_id", Text),
        Column("method", Text),
        Column("changed", ARRAY(Text)),
        Column("document", Text),
        Column("unseen", Boolean),
        Column("deleted", Boolean),
        Column("gap", Boolean),
    )


REVISIONS = _history("revisions")
# Revisions, and the last ones from before the retention.
HISTORY = _history("history")

COMMITS = Table("commits", _METADATA, Column("transaction", Xid), Column("number", BigInteger))
FEED = Table("feed", _METADATA, Column("database", Text), Column("dropped", Xid))

RENAMES = Table(
    "renames", _METADATA, Column("id", Uuid, primary_key=True), Column("fetch_number", BigInteger)
)

SHADOW = Table(
    "shadow",
    _METADATA,
    Column("entity_set", Text, primary_key=True),
    Column("shape", Text, primary_key=True),
    Column("requests", BigInteger),
    Column("same", BigInteger),
    Column("different", BigInteger),
    Column("not_compared", BigInteger),
    Column("alike", BigInteger),
    Column("unlike", BigInteger),
    Column("unsure", BigInteger),
    Column("last_at", _INSTANT),
)

SHADOW_EXAMPLES = Table(
    "shadow_examples",
    _METADATA,
    Column("id", BigInteger),
    Column("entity_set", Text),
    Column("shape", Text),
    Column("entity_key", Text),
    Column("request_id", Text),
    Column("found_at", _INSTANT),
    Column("mirror", Text),
    Column("upstream", Text),
    Column("kind", Text),
    Column("query", Text),
)

INTENTS = Table(
    "intents",
    _METADATA,
    Column("id", BigInteger),
    Column("method", Text),
    Column("entity_set", Text),
    Column("entity_key", Text),
    Column("touched", JSONB),
    Column("body", LargeBinary),
    Column("content_type", Text),
    Column("before", LargeBinary),
    Column("source", Text),
    Column("user_name", Text),
    Column("client", Text),
    Column("request_id", Text),
    Column("opened_at", _INSTANT),
    Column("fetch_number", BigInteger),
    Column("closed_at", _INSTANT),
    Column("outcome", Text),
    Column("holder", Text),
    Column("written", ARRAY(Text)),
)

AUTHORITIES = Table(
    "authorities",
    _METADATA,
    Column("entity_set", Text, primary_key=True),
    Column("authority", Text),
    Column("answers", Text),
    Column("epoch", BigInteger),
    Column("since", _INSTANT),
    Column("by", Text),
)

VERIFICATIONS = Table(
    "verifications",
    _METADATA,
    Column("entity_set", Text, primary_key=True),
    Column("began_at", _INSTANT),
    Column("number", BigInteger),
    Column("upstream", BigInteger),
    Column("mirror", BigInteger),
    Column("contents", BigInteger),
    Column("drift", BigInteger),
    Column("repaired", BigInteger),
)

COMPUTED = Table(
    "computed",
    _METADATA,
    Column("entity_set", Text, primary_key=True),
    Column("property", Text, primary_key=True),
    Column("differed", BigInteger),
    Column("changed", BigInteger),
    Column("filled", BigInteger),
    Column("last_at", _INSTANT),
)

LOCAL_WRITES = Table(
    "local_writes",
    _METADATA,
    Column("id", BigInteger),
    Column("entity_set", Text),
    Column("entity_key", Text),
    Column("operation", Text),
    Column("method", Text),
    Column("path", Text),
    Column("body", LargeBinary),
    Column("content_type", Text),
    Column("posted", Text),
    Column("changeset", Text),
    Column("made_at", _INSTANT),
    Column("user_name", Text),
    Column("client", Text),
    Column("request_id", Text),
)

REPLAYS = Table(
    "replays",
    _METADATA,
    Column("local_write", BigInteger, primary_key=True),
    Column("entity_set", Text),
    Column("entity_key", Text),
    Column("sent_at", _INSTANT),
    Column("outcome", Text),
    Column("status", Integer),
    Column("message", Text),
    Column("ended_at", _INSTANT),
    Column("taken_over", Boolean),
)

CONFLICTS = Table(
    "conflicts",
    _METADATA,
    Column("id", BigInteger),
    Column("entity_set", Text),
    Column("entity_key", Text),
    Column("held_fetch_number", BigInteger),
    Column("held_modified_on", DateTime),
    Column("held_version_number", BigInteger),
    Column("held_etag", Text),
    Column("held_document", Text),
    Column("seen_fetch_number", BigInteger),
    Column("seen_modified_on", DateTime),
    Column("seen_version_number", BigInteger),
    Column("seen_etag", Text),
    Column("seen_document", Text),
    Column("found_at", _INSTANT),
    Column("request_id", Text),
    Column("settled_at", _INSTANT),
)

SET_STATES = Table(
    "set_states",
    _METADATA,
    Column("entity_set", Text, primary_key=True),
    Column("title", Text),
    Column("proven", ARRAY(Text)),
    Column("forward_reason", Text),
    Column("lies", Integer),
    Column("hits_audited", Integer),
)

METADATA_VERSIONS = Table(
    "metadata_versions",
    _METADATA,
    Column("id", BigInteger),
    Column("document", LargeBinary),
    Column("digest", LargeBinary),
    Column("seen_at", _INSTANT),
)

LEASES = Table(
    "leases",
    _METADATA,
    Column("name", Text, primary_key=True),
    Column("holder", Text),
    Column("fence", BigInteger),
    Column("expires_at", _INSTANT),
)

WALKS = Table(
    "walks",
    _METADATA,
    Column("stage", Text, primary_key=True),
    Column("entity_set", Text, primary_key=True),
    Column("started_at", _INSTANT),
    Column("upstream_started_at", _INSTANT),
    Column("next_target", Text),
    Column("rows", BigInteger),
    Column("last_key", Text),
    Column("finished_at", _INSTANT),
)

FOLLOWING = Table(
    "following",
    _METADATA,
    Column("entity_set", Text, primary_key=True),
    Column("watermark", DateTime),
    Column("since", _INSTANT),
    Column("polled_at", _INSTANT),
    Column("looked_back_at", _INSTANT),
    Column("swept_at", _INSTANT),
)

MISSING = Table(
    "missing",
    _METADATA,
    Column("entity_set", Text, primary_key=True),
    Column("entity_key", Text, primary_key=True),
)

FINDINGS = Table(
    "findings",
    _METADATA,
    Column("id", BigInteger),
    Column("entity_set", Text),
    Column("kind", Text),
    Column("detail", Text),
    Column("found_at", _INSTANT),
    Column("accepted", Boolean),
    Column("spent", Boolean),
)
