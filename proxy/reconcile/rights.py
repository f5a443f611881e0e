"""What a caller may see and do; pure.

Rights name entity sets, `*` all of them. What only the mirror keeps of a model is a set of its own, called
`model/` and the model's name, as in the history. Who may write a set may read it: the answer to a create
shows the entity. A property that is hidden reads as null, is not written, and is nothing to find or sort
entities by, nor a way to others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from proxy.odata.bound import BoundExpression, paths_in
from proxy.odata.edm import EntitySet, Model
from proxy.odata.models import Mapped, MappedSet
from proxy.odata.relationships import Relationship
from proxy.odata.verbose_json import put_members, value_at, without_members, write_value
from proxy.reconcile.errors import RightMissing

EVERY = "*"
_EVERY = frozenset({EVERY})
# The upstream's own digest of an entity may be made of what is hidden, or spell it out (RFC 9110, 8.8.3).
_DIGESTS = frozenset({"etag", "media_etag"})


@dataclass(frozen=True, slots=True)
class Shown:
    """Which properties of a set are shown: those in `names`, or all but those. Keys always are."""

    names: frozenset[str]
    but: bool = False


@dataclass(frozen=True, slots=True)
class Rights:
    """`who`: the caller's name, "" where nobody has to say. `properties`: by entity set; all are shown of
    one that is not there. `admin`: the admin API and the console, which show and change everything."""

    who: str = ""
    read: frozenset[str] = frozenset()
    write: frozenset[str] = frozenset()
    properties: Mapping[str, Shown] = field(default_factory=dict)
    admin: bool = False
    metrics: bool = False

    @property
    def user(self) -> str | None:
        """Who acts, for the history and the log."""
        return self.who or None

    @property
    def readable(self) -> frozenset[str] | None:
        """The names of the sets that may be read; None for all."""
        named = self.read | self.write
        return None if self.admin or EVERY in named else named

    @property
    def sees_all(self) -> bool:
        return self.readable is None and not self.properties

    @property
    def is_whole(self) -> bool:
        """May read and write whatever there is, what names no entity set included."""
        return self.sees_all and (self.admin or EVERY in self.write)

    def may_read(self, entity_set: str) -> bool:
        named = self.readable
        return named is None or entity_set in named

    def may_write(self, entity_set: str) -> bool:
        return self.admin or not self.write.isdisjoint((EVERY, entity_set))

    def visible(self, entity_set: EntitySet, name: str) -> bool:
        shown = self.properties.get(entity_set.name)
        if shown is None or name in entity_set.entity_type.key:
            return True
        return (name in shown.names) is not shown.but

    def hidden(self, entity_set: EntitySet) -> tuple[str, ...]:
        """The declared properties that are not shown."""
        if entity_set.name not in self.properties:
            return ()
        return tuple(name for name in entity_set.entity_type.properties if not self.visible(entity_set, name))

    def require_read(self, entity_set: str) -> None:
        """This and the others raise RightMissing."""
        if not self.may_read(entity_set):
            raise RightMissing(self.who, f"read {entity_set}")

    def require_write(self, entity_set: str) -> None:
        if not self.may_write(entity_set):
            raise RightMissing(self.who, f"write {entity_set}")

    def require_property(self, entity_set: EntitySet, name: str) -> None:
        if not self.visible(entity_set, name):
            raise RightMissing(self.who, f"see {entity_set.name}'s '{name}'")

    def require_way(self, relationship: Relationship) -> None:
        """To be led somewhere tells what the properties say that tie both ends together."""
        self.require_read(relationship.source.name)
        self.require_read(relationship.target.name)
        for near, far in relationship.ties:
            self.require_property(relationship.source, near[0])
            self.require_property(relationship.target, far[0])
        if relationship.intersect is not None:
            pairs = relationship.intersect
            self.require_read(pairs.entity_set.name)
            self.require_property(pairs.entity_set, pairs.first)
            self.require_property(pairs.entity_set, pairs.second)

    def require_expression(self, expression: BoundExpression, entity_set: EntitySet) -> None:
        """`expression`: of `$filter` or `$orderby`, over entities of the set."""
        for path in paths_in(expression):
            for step in path.steps:
                self.require_way(step)
            self.require_property(path.steps[-1].target if path.steps else entity_set, path.members[0])

    def require_admin(self) -> None:
        if not self.admin:
            raise RightMissing(self.who, "use the admin API and the console (admin)")

    def require_metrics(self) -> None:
        if not (self.metrics or self.admin):
            raise RightMissing(self.who, "read the metrics (metrics)")

    def masked(self, document: str, entity_set: EntitySet, model: Model) -> str:
        """An entity's document with null in the place of what is hidden."""
        hidden = self.hidden(entity_set)
        if not hidden:
            return document
        declared = entity_set.entity_type.properties
        nulls = {name: write_value(None, declared[name], model) for name in hidden}
        metadata = value_at(document, ("__metadata",))
        if metadata is not None:
            nulls["__metadata"] = without_members(metadata, _DIGESTS)
        return put_members(document, nulls)

    def without(self, hidden: Mapping[str, frozenset[str]]) -> Rights:
        """The same, but for these properties, by entity set."""
        properties = dict(self.properties)
        for name, names in hidden.items():
            shown = properties.get(name, Shown(frozenset(), but=True))
            properties[name] = Shown(shown.names | names if shown.but else shown.names - names, shown.but)
        return replace(self, properties=properties) if hidden else self

    def under(self, mapped: Mapped) -> Rights:
        """The same in the names of the models."""
        if self.is_whole:
            return self
        properties = {name: Shown(names, but=True) for name, names in self._hidden_in(mapped)}
        read = frozenset(name for name, of in mapped.sets.items() if self.may_read(named_in_history(of)))
        write = frozenset(name for name, of in mapped.sets.items() if self.may_write(named_in_history(of)))
        return Rights(self.who, read, write, properties)

    def _hidden_in(self, mapped: Mapped) -> list[tuple[str, frozenset[str]]]:
        found = []
        for name, of in mapped.sets.items():
            sees_own = self.may_read(f"model/{name}")
            hidden = frozenset(
                each.name
                for each in of.properties[1:]
                if not (
                    self.visible(of.source, each.path[0]) if of.source is not None and each.path else sees_own
                )
            )
            if hidden:
                found.append((name, hidden))
        return found


def named_in_history(of: MappedSet) -> str:
    """The set whose right a model's entities need: the one it maps, or its own."""
    return f"model/{of.entity_set.name}" if of.source is None else of.source.name


# Whose name nobody has to say: on the loopback, while no callers are configured.
ANYBODY = Rights(read=_EVERY, write=_EVERY, admin=True, metrics=True)
NOBODY = Rights()
