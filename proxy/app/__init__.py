"""The wiring: the only part of the package that knows both sides of a port.

`running` starts everything and gives the running proxy; `serve` keeps it until a signal ends it; `working`
and `backfill` are for commands beside it.
"""

from __future__ import annotations

from proxy.app.commands import backfill, working
from proxy.app.running import Proxy, running, serve

__all__ = ["Proxy", "backfill", "running", "serve", "working"]
