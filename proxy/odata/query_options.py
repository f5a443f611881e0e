"""The query of a request: its options read, its raw text kept (OData v2 Overview, 4; field manual 2.5, 3).

Reading never loses a byte: what is forwarded is `QueryOptions.raw`, and the two functions that make and undo
the check's query (`with_select`, `restore_select`) cut the raw text at `&` and touch one segment only.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote_plus

from proxy.odata.errors import ODataError

_BAD_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_MAX_COUNT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class QueryOption:
    """One option, name and value decoded; `raw` is its segment between the `&`s as sent."""

    name: str
    value: str
    raw: str


@dataclass(frozen=True, slots=True)
class QueryOptions:
    """The options of one query in the order given.

    A property named after an option is None where the option is absent, and shows the first where it was
    given twice; `duplicates` tells. Option names are matched with case, as the server does.
    """

    raw: str | None
    items: tuple[QueryOption, ...] = ()

    def get(self, name: str) -> str | None:
        """The decoded value of the first option of this name."""
        for item in self.items:
            if item.name == name:
                return item.value
        return None

    @property
    def names(self) -> frozenset[str]:
        """The system options given, known or not: all names that start with `$`, blanks aside."""
        return frozenset(item.name for item in self.items if item.name.lstrip().startswith("$"))

    @property
    def duplicates(self) -> frozenset[str]:
        """The system options given more than once."""
        names = [item.name for item in self.items if item.name.lstrip().startswith("$")]
        return frozenset(name for name, times in Counter(names).items() if times > 1)

    @property
    def select(self) -> tuple[str, ...] | None:
        """Names in the order asked for. An empty element stays: what a server makes of one is unknown."""
        return _names(self.get("$select"))

    @property
    def expand(self) -> tuple[str, ...] | None:
        return _names(self.get("$expand"))

    @property
    def top(self) -> int | None:
        """ODataError where it is no number of records."""
        return self._count("$top")

    @property
    def skip(self) -> int | None:
        """ODataError where it is no number of records."""
        return self._count("$skip")

    @property
    def skiptoken(self) -> str | None:
        return self.get("$skiptoken")

    @property
    def filter(self) -> str | None:
        return self.get("$filter")

    @property
    def orderby(self) -> str | None:
        return self.get("$orderby")

    @property
    def inlinecount(self) -> str | None:
        return self.get("$inlinecount")

    @property
    def format(self) -> str | None:
        return self.get("$format")

    def _count(self, name: str) -> int | None:
        value = self.get(name)
        if value is None:
            return None
        digits = value.strip()
        if not (digits.isascii() and digits.isdigit() and len(digits) <= 10 and int(digits) <= _MAX_COUNT):
            raise ODataError(f"Incorrect format for {name} argument '{value[:60]}'.", token=value)
        return int(digits)


def _names(value: str | None) -> tuple[str, ...] | None:
    return None if value is None else tuple(name.strip() for name in value.split(","))


def _decode(text: str) -> str:
    if "%" not in text:
        return text.replace("+", " ")
    if _BAD_ESCAPE.search(text):
        raise ODataError("Bad percent-encoding in the query.", token=text)
    try:
        return unquote_plus(text, errors="strict")
    except UnicodeDecodeError:
        raise ODataError("The query is not UTF-8.", token=text) from None


def parse_query(raw: str | None) -> QueryOptions:
    """Read a raw query (None for no `?`). Empty segments are skipped. ODataError for a bad encoding."""
    if not raw:
        return QueryOptions(raw)
    items = []
    for segment in raw.split("&"):
        if segment:
            name, _, value = segment.partition("=")
            items.append(QueryOption(_decode(name), _decode(value), segment))
    return QueryOptions(raw, tuple(items))


def _is_select(segment: str, names: tuple[str, ...] | None = None) -> bool:
    """Whether the raw segment is a `$select`, and one of just these names where any are given."""
    name, _, value = segment.partition("=")
    try:
        return _decode(name) == "$select" and (names is None or _names(_decode(value)) == names)
    except ODataError:
        return False


def with_select(raw: str | None, names: Sequence[str]) -> str:
    """The raw query with the value of its first `$select` replaced, or with `$select` appended.

    No other byte changes, and the option's name keeps the client's spelling (`%24select`).
    """
    value = ",".join(names)
    segments = (raw or "").split("&")
    for index, segment in enumerate(segments):
        if _is_select(segment):
            segments[index] = f"{segment.partition('=')[0]}={value}"
            return "&".join(segments)
    if segments[-1]:
        segments.append("")
    segments[-1] = f"$select={value}"
    return "&".join(segments)


def restore_select(next_link: str, client_query: str | None, names: Iterable[str]) -> str:
    """Undo `with_select` in the `__next` link that upstream made from such a query.

    The segment that selects just `names`, however upstream has encoded it, gives way to the client's own raw
    `$select` segment, or goes with one `&` where the client had none. A link without such a segment is
    returned as it is.
    """
    path, mark, query = next_link.partition("?")
    ours = tuple(names)
    segments = query.split("&")
    index = next((i for i, segment in enumerate(segments) if _is_select(segment, ours)), None)
    if index is None:
        return next_link
    segments[index : index + 1] = [item for item in (client_query or "").split("&") if _is_select(item)][:1]
    return f"{path}{mark}{'&'.join(segments)}" if segments else path
