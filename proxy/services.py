"""The services listener: what is ours, apart from upstream's namespace."""

from __future__ import annotations

from aiohttp import web

from proxy.metrics import Metrics
from proxy.reconcile.metadata import Metadata
from proxy.reconcile.ports import Store, StoreUnavailable


def services_app(store: Store, metadata: Metadata, metrics: Metrics) -> web.Application:
    """`/healthz`: the process answers. `/readyz`: it can do its work. `/metrics`: Prometheus text."""

    async def healthz(request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def readyz(request: web.Request) -> web.Response:
        try:
            database = await store.is_ready()
        except StoreUnavailable:
            database = False
        parts = {"database": database, "metadata": metadata.model is not None}
        return web.json_response(parts, status=200 if all(parts.values()) else 503)

    async def show_metrics(request: web.Request) -> web.Response:
        try:
            known = len(await store.open_intents()) if metadata.model else float("nan")
        except StoreUnavailable:
            known = float("nan")
        metrics.open_intents.set(known)
        return web.Response(body=metrics.render(), headers={"Content-Type": metrics.content_type})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", show_metrics)
    return app
