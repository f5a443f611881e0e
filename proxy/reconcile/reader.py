"""The driver of reads: one entity, or a page of a set, by the checked-read rule.

`read` is where a GET arrives. It serves from the mirror what a check confirmed, fetches what moved, and
forwards the client's own request wherever it cannot promise upstream's own bytes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from cachetools import LRUCache

from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.odata.operation import ReadCollection, ReadEntity
from proxy.odata.query_options import with_select
from proxy.odata.uri import format_key
from proxy.odata.verbose_json import restore_origins, rewrite_origins
from proxy.reconcile import assembly, freshness
from proxy.reconcile.background import Background
from proxy.reconcile.errors import NotInMirror, SyncConflict
from proxy.reconcile.exchange import Answer, Ask, CacheStatus, FromMirror, Relayed
from proxy.reconcile.feeder import Feeder
from proxy.reconcile.mirror import Mirror, read_json, says_deleted
from proxy.reconcile.observations import Observe, StoreFailed, UpstreamFailed
from proxy.reconcile.ports import (
    Fetched,
    Reply,
    Request,
    Source,
    Store,
    Stored,
    StoreUnavailable,
    Upstream,
    UpstreamCut,
    UpstreamFailure,
)
