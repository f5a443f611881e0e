"""`$select` and `$expand` as one tree (OData v2 URI conventions, 4.6 and 4.8; field manual, 3.2 and 3.3).

A navigation property is shown in its entities' place where it is expanded and not left out by `$select`;
one that is selected without being expanded is shown deferred. Empty list elements are skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

from proxy.odata.edm import EntityType, Model
from proxy.odata.errors import ODataError

EXPAND_LIMIT = 32
_OF_A_PATH = "/,*"


@dataclass(frozen=True, slots=True)
class Projection:
    """What is shown of an entity.

    `select`: names of properties and navigation properties in the order asked for; None shows all.
    `expanded`: by navigation property, what is shown of the entities that stand in its place.
    """

    select: tuple[str, ...] | None = None
    expanded: Mapping[str, Projection] = field(default_factory=dict)

    def query(self) -> tuple[str, ...]:
        """The query options, percent-encoded, that ask for this projection."""
        select = ",".join(self._select_paths())
        expand = ",".join(self._expand_paths())
        return (
            *((f"$select={quote(select, safe=_OF_A_PATH)}",) if select else ()),
            *((f"$expand={quote(expand, safe=_OF_A_PATH)}",) if expand else ()),
        )

    def _select_paths(self) -> Iterator[str]:
        for name in self.select or ():
            below = self.expanded.get(name)
            if below is None or below.select is None:
                yield name
            else:
                yield from (f"{name}/{path}" for path in below._select_paths())

    def _expand_paths(self) -> Iterator[str]:
        for name, below in self.expanded.items():
            if below.expanded:
                yield from (f"{name}/{path}" for path in below._expand_paths())
            else:
                yield name


class _Node:
    """A projection being read. `names`: what `$select` has named here; `whole`: all of it, and all below."""

    def __init__(self, entity_type: EntityType) -> None:
        self.entity_type = entity_type
        self.expanded: dict[str, _Node] = {}
        self.names: dict[str, None] = {}
        self.whole = False

    def projection(self, *, whole: bool) -> Projection:
        whole = whole or self.whole
        shown = [name for name in self.expanded if whole or name in self.names]
        return Projection(
            None if whole else tuple(self.names),
            {name: self.expanded[name].projection(whole=whole) for name in shown},
        )


def parse_projection(
    select: str | None, expand: str | None, entity_type: EntityType, model: Model
) -> Projection:
    """Read both options' decoded values; None or nothing but blanks and commas stands for an absent one.

    Raises ODataError, 400, with the position in the option's value and the token, for names that the type
    does not declare, paths that lead nowhere, and more than EXPAND_LIMIT expansions.
    """
    root = _Node(entity_type)
    expansions = 0
    for path in _paths("$expand", expand):
        node = root
        for token, position in path:
            below = _target(node.entity_type, token, model)
            if below is None:
                raise _unknown("navigation property", "$expand", token, position, node.entity_type)
            expansions += token not in node.expanded
            if expansions > EXPAND_LIMIT:
                raise ODataError(
                    f"$expand names more navigation properties than the limit of {EXPAND_LIMIT}.",
                    position=position,
                    token=token,
                )
            node = node.expanded.setdefault(token, _Node(below))
    root.whole = True
    for path in _paths("$select", select):
        root.whole = False
        _select(path, root, model)
    return root.projection(whole=False)


def _select(path: list[tuple[str, int]], node: _Node, model: Model) -> None:
    for index, (name, position) in enumerate(path, 1):
        if name == "*" or name in node.entity_type.properties:
            if index < len(path):
                after, position = path[index]
                raise ODataError(
                    f"Nothing may follow '{name}' in $select as '{after[:60]}' does at position {position}.",
                    position=position,
                    token=after,
                )
            node.names.update(dict.fromkeys(node.entity_type.properties if name == "*" else (name,)))
            return
        below = _target(node.entity_type, name, model)
        if below is None:
            raise _unknown("property", "$select", name, position, node.entity_type)
        node.names[name] = None
        # What is selected below a navigation property that is not expanded is judged, and not shown.
        node = node.expanded.get(name) or _Node(below)
    node.whole = True


def _target(entity_type: EntityType, name: str, model: Model) -> EntityType | None:
    """The type at the far end of a navigation property; None where the type has none of this name."""
    navigation = entity_type.navigation_properties.get(name)
    return model.entity_types.get(navigation.target) if navigation else None


def _paths(option: str, value: str | None) -> Iterator[list[tuple[str, int]]]:
    """The list's paths: their segments without blanks around them, and where each stands in `value`."""
    at = 0
    for element in (value or "").split(","):
        if element.strip():
            path = []
            for segment in element.split("/"):
                token = segment.strip()
                position = at + len(segment) - len(segment.lstrip())
                if not token:
                    raise ODataError(
                        f"{option} has an empty path segment at position {position}.",
                        position=position,
                        token=segment,
                    )
                path.append((token, position))
                at += len(segment) + 1
            yield path
        else:
            at += len(element) + 1


def _unknown(what: str, option: str, token: str, position: int, entity_type: EntityType) -> ODataError:
    return ODataError(
        f"The type '{entity_type.qualified_name}' has no {what} '{token[:60]}', which {option} names at"
        f" position {position}.",
        position=position,
        token=token,
    )
