"""Between the options of a request and a `Query`, and back to the next link; pure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from proxy.odata.binding import bind_filter, bind_orderby
from proxy.odata.bound import BoundExpression
from proxy.odata.edm import EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.odata.filter import parse_filter, parse_orderby
from proxy.odata.query_options import QueryOptions
from proxy.odata.reading import AS_OF
from proxy.odata.relationships import Relationships
from proxy.reconcile.ports import Query, SkipToken

# What a next link keeps of the query, as upstream's does (field manual, 4.2), and the format.
_KEPT_IN_LINK = frozenset({"$filter", "$expand", "$orderby", "$inlinecount", "$select", "$format", AS_OF})


def query_of(
    options: QueryOptions,
    entity_set: EntitySet,
    model: Model,
    relationships: Relationships,
    *,
    page: int,
    page_limit: int,
) -> Query:
    """What the options ask for, pages of `page` where they do not say how long. Raises ODataError, also for
    a `$top` over `page_limit`."""
    if options.top is not None:
        if options.top > page_limit:
            raise ODataError(
                f"$top={options.top} is more than one page may hold: limits.mirror_page is {page_limit}.",
                token=str(options.top),
            )
        page = options.top
    condition: BoundExpression | None = None
    if options.filter:
        with _in_option("$filter"):
            condition = bind_filter(parse_filter(options.filter), entity_set, model, relationships)
    with _in_option("$orderby"):
        parsed = parse_orderby(options.orderby) if options.orderby else ()
        order = bind_orderby(parsed, entity_set, model, relationships)
    return Query(
        entity_set,
        condition,
        order,
        skip=options.skip or 0,
        top=options.top,
        page=page,
        after=options.skiptoken,
        count=options.inlinecount == "allpages",
    )


def next_query(options: QueryOptions, token: SkipToken) -> str:
    """The raw query of the page after this one."""
    kept = [item.raw for item in options.items if item.name in _KEPT_IN_LINK]
    return "&".join((*kept, f"$skiptoken={token}"))


@contextmanager
def _in_option(name: str) -> Iterator[None]:
    """Errors inside say in which option they are."""
    try:
        yield
    except ODataError as error:
        raise error.within(name) from None
