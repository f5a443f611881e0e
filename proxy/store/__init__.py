"""Postgres and nothing else: the mirror, its history, and the marks of writes."""

from proxy.store.embedded import EmbeddedPostgres, EmbeddedPostgresError
from proxy.store.store import PostgresStore

__all__ = ["EmbeddedPostgres", "EmbeddedPostgresError", "PostgresStore"]
