"""The driver of writes to sets whose authority is the mirror: each one database transaction.

What a client sends is read and refused as upstream read and refused it (field manual, 6 and 8), carried out
by `local_entities`, and kept in the log for the way back, all or nothing.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from proxy.odata import atom, dialect, media, verbose_json
from proxy.odata.bound import Comparison, Constant, Path
from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.odata.primitives import PRIMITIVES
from proxy.odata.relationships import Relationship, logical_name
from proxy.odata.uri import ResourcePath, entity_path, parse_resource_path
from proxy.reconcile.authority import Epochs
from proxy.reconcile.current_names import CurrentNames
from proxy.reconcile.local import LocalAnswer, LocalAsk
from proxy.reconcile.local_entities import LocalEntities
from proxy.reconcile.local_links import Links
from proxy.reconcile.local_reader import LocalReader, Place
from proxy.reconcile.local_rules import Author, Rules, Values, invalid_argument
from proxy.reconcile.local_store import LocalStore, LocalTransaction, LocalWrite
from proxy.reconcile.policy import SyncRules
from proxy.reconcile.ports import Provenance, Query, Source
from proxy.reconcile.sets import Sets

T = TypeVar("T")
Children = Mapping[str, tuple[Relationship, list[dict[str, Any]]]]


class LocalWriter:
    """`user`: id of the systemuser that writes where no other is known, None for nobody. `now`: aware UTC."""

    def __init__(
        self,
        store: LocalStore,
        sets: Sets,
        reader: LocalReader,
        rules: SyncRules,
        now: Callable[[], datetime],
        *,
        root_path: str,
        user: uuid.UUID | None,
    ) -> None:
        self._store = store
        self._sets = sets
        self._reader = reader
        self._rules = rules
        self._now = now
        self._root_path = root_path
        self._user = user

    async def write(self, ask: LocalAsk, model: Model, epochs: Epochs) -> LocalAnswer:
        """Carry out one write.

        Raises ODataError where upstream would refuse, UnsupportedConstruct for what the mirror cannot do,
        AuthorityMoved, and StoreUnavailable.
        """

        async def work(transaction: LocalTransaction) -> LocalAnswer:
            return await self.within(transaction, ask, model)

        return await self._store.locally(epochs, work)

    async def together(self, epochs: Epochs, work: Callable[[LocalTransaction], Awaitable[T]]) -> T:
        """Several writes in one transaction; raises as `write`."""
        return await self._store.locally(epochs, work)

    async def within(
        self, transaction: LocalTransaction, ask: LocalAsk, model: Model, changeset: str | None = None
    ) -> LocalAnswer:
        """Carry out one write as part of a transaction."""
        method = dialect.meant_method(ask.method, ask.headers)
        dialect.check_headers(ask.headers)
        path = parse_resource_path(ask.path, model)
        if path.entity_set is None:
            raise dialect.not_allowed("POST" if path.special == "batch" else "GET")
        if len(path.navigation) > 1:
            raise ODataError("Only one navigation property may be followed.")
        names = CurrentNames(transaction, self._sets, model)
        entities = LocalEntities(
            transaction,
            names,
            self._sets,
            Rules(model, self._reader.relationships(model)),
            self._rules,
            await self._author(ask, transaction, model),
            Provenance(Source.LOCAL_WRITE, ask.request_id, ask.user, ask.client),
            self._now,
            await self._reader.own_path(model),
            self._root_path,
        )
        writing = _Writing(entities, self._reader.over(transaction), ask, path, method, changeset)
        return await writing.carried_out()

    async def _author(self, ask: LocalAsk, transaction: LocalTransaction, model: Model) -> Author:
        """The systemuser that the client is known to be, else the one that the settings name."""
        users = next(
            (each for each in model.entity_sets.values() if logical_name(each) == "systemuser"), None
        )
        if users is None:
            return Author()
        (part,) = users.entity_type.key
        condition = _equals("Edm.Guid", part, self._user)
        if ask.user is not None and "DomainName" in users.entity_type.properties:
            known = _equals("Edm.String", "DomainName", ask.user)
            found = (await transaction.find(Query(users, known, page=1))).rows
            if found:
                condition = _equals("Edm.Guid", part, found[0].key[0][1])
        rows = (await transaction.find(Query(users, condition, page=1))).rows
        if not rows:
            return Author({"Id": self._user, "LogicalName": "systemuser"} if self._user else None)
        text = verbose_json.value_at(rows[0].document or "", ("BusinessUnitId",)) or "null"
        unit = json.loads(text) or {}
        user = {"Id": rows[0].key[0][1], "LogicalName": "systemuser"}
        if not unit.get("Id"):
            return Author(user)
        return Author(user, {"Id": uuid.UUID(unit["Id"]), "LogicalName": unit["LogicalName"]})


def _equals(edm_type: str, name: str, value: Any) -> Comparison:
    return Comparison("eq", Path((), (name,), edm_type), Constant(edm_type, value), edm_type)


@dataclass(frozen=True, slots=True)
class _Writing:
    """One write being carried out."""

    entities: LocalEntities
    reader: LocalReader
    ask: LocalAsk
    path: ResourcePath
    method: str
    changeset: str | None

    @property
    def model(self) -> Model:
        return self.entities.model

    async def carried_out(self) -> LocalAnswer:
        if self.path.links:
            return await self._links()
        place = await self.reader.followed(self.path, self.ask, self.model)
        if self.path.property_path or self.path.value:
            return await self._property(place)
        if place.key is None:
            if self.method != "POST":
                raise dialect.not_allowed("GET", "POST")
            return await self._create(place)
        if self.method == "DELETE":
            await self.entities.delete(place.entity_set, place.key, "DeleteEntity")
            return await self._done("DeleteEntity", place.entity_set, place.key)
        if self.method not in ("MERGE", "PUT"):
            raise dialect.not_allowed("GET", "MERGE", "PUT", "DELETE")
        # A missing entity is noticed before what was sent for it is read.
        await self.entities.require(place.entity_set, place.key)
        values, nested = self._posted(place.entity_set)
        if nested:
            raise ODataError("Deep updates are not supported in PUT or MERGE requests.")
        operation = "MergeEntity" if self.method == "MERGE" else "UpdateEntity"
        await self.entities.update(place.entity_set, place.key, values, operation)
        return await self._done(operation, place.entity_set, place.key, values)

    async def _done(
        self,
        operation: str,
        entity_set: EntitySet,
        key: EntityKey,
        posted: Values | None = None,
        nested_at: str | None = None,
    ) -> LocalAnswer:
        """Add a row to the log. `nested_at`: the path at which upstream takes by itself what came nested."""
        properties = entity_set.entity_type.properties
        written = (
            f"{json.dumps(name)}:{verbose_json.write_value(value, properties[name], self.model)}"
            for name, value in (posted or {}).items()
            if name in properties
        )
        text = "" if posted is None else f"{{{','.join(written)}}}"
        is_nested = nested_at is not None
        await self.entities.transaction.log(
            LocalWrite(
                entity_set.name,
                key,
                operation,
                self.method,
                self.ask.target[len(self.ask.root_path) :] if nested_at is None else nested_at,
                text.encode() if is_nested else self.ask.body,
                "application/json" if is_nested else self.ask.headers.get("Content-Type", ""),
                text,
                self.entities.provenance,
                self.changeset,
            )
        )
        return LocalAnswer(204)

    def _posted(self, entity_set: EntitySet) -> tuple[Values, dict[str, Any]]:
        """The properties sent, and the nested entities by navigation property. Raises ODataError."""
        content_type, body = self.ask.headers.get("Content-Type"), self.ask.body
        entity_type = entity_set.entity_type
        if not body.strip():
            raise ODataError("The request has no body.")
        if media.is_json(content_type):
            posted = verbose_json.parse_posted(body, entity_type, self.model)
        elif media.is_atom(content_type) or media.media_type(content_type) == "application/xml":
            posted = atom.parse_entry_body(body, entity_type, self.model)
        else:
            raise ODataError("Unsupported media type requested.", status=415)
        nested = {name: value for name, value in posted.items() if name in entity_type.navigation_properties}
        return {name: value for name, value in posted.items() if name not in nested}, nested

    # Creating

    async def _create(self, place: Place) -> LocalAnswer:
        dialect.chosen_format(self.ask.accept)
        entity_set = place.entity_set
        values, nested = self._posted(entity_set)
        children = {name: self._children(entity_set, name, value) for name, value in nested.items()}
        key = await self._create_tree(entity_set, values, children)
        if place.parent is not None:
            parent = place.parent
            links = Links(self.entities, "CreateEntity")
            await links.tie(parent.source, parent.key, parent.relationship, key)
        return await self.reader.made(entity_set, key, self.ask, self.model)

    def _children(
        self, entity_set: EntitySet, name: str, value: Any
    ) -> tuple[Relationship, list[dict[str, Any]]]:
        """The entities nested under a navigation property, read but not yet made (6.6)."""
        relationship = self.entities.rules.relationships.of(entity_set, name)
        if relationship is None:
            raise ODataError(f"The navigation property '{name}' leads to no entity set.")
        if relationship.many and isinstance(value, Mapping) and isinstance(value.get("results"), list):
            value = value["results"]
        items = value if relationship.many else [value] if value is not None else []
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise ODataError(f"The value of the navigation property '{name}' is no entity.")
        target = relationship.target.entity_type
        children = []
        for item in items:
            child = verbose_json.parse_posted(json.dumps(item).encode(), target, self.model)
            if child.keys() & target.navigation_properties.keys():
                raise ODataError("Entities can be nested one level deep.")
            children.append(child)
        return relationship, children

    async def _create_tree(self, entity_set: EntitySet, values: Values, children: Children) -> EntityKey:
        """Make what the entity refers to, the entity, then what refers to it.

        Each is a write of the log: upstream makes them with the keys that they have here.
        """
        entities, values = self.entities, dict(values)
        for relationship, items in children.values():
            for item in items if relationship.kind == "lookup" else ():
                target = relationship.target
                parent = await entities.create(target, item, "CreateEntity")
                values[relationship.lookup] = {"Id": parent[0][1], "LogicalName": logical_name(target)}
                await self._done("CreateEntity", target, parent, item, f"/{target.name}")
        key = await entities.create(entity_set, values, "CreateEntity")
        await self._done("CreateEntity", entity_set, key, values)
        for relationship, items in children.values():
            for item in items if relationship.kind != "lookup" else ():
                target, path = relationship.target, f"/{relationship.target.name}"
                if relationship.kind == "referrers":
                    item[relationship.lookup] = {"Id": key[0][1], "LogicalName": logical_name(entity_set)}
                child = await entities.create(target, item, "CreateEntity")
                if relationship.kind == "links":
                    await Links(entities, "CreateEntity").tie(entity_set, key, relationship, child)
                    path = f"/{entity_path(entity_set, key)}/{relationship.name}"
                await self._done("CreateEntity", target, child, item, path)
        return key

    # Single properties

    async def _property(self, place: Place) -> LocalAnswer:
        """PUT or MERGE of one property: `{"Name":"x"}`, or its bare text at `$value` (6.3)."""
        if self.method not in ("PUT", "MERGE") or place.key is None or not self.path.property_path:
            raise dialect.not_allowed("GET", "PUT", "MERGE")
        name, *members = self.path.property_path
        held = await self.entities.require(place.entity_set, place.key)
        entity_type = place.entity_set.entity_type
        if self.path.value:
            primitive = PRIMITIVES.get(entity_type.properties[name].type)
            if primitive is None or members:
                raise ODataError("Only a primitive property has a raw value to be written.")
            values: Values = {name: primitive.from_atom(self.ask.body.decode("utf-8", "replace"))}
        else:
            current = self.entities.values_of(held, place.entity_set)[name]
            values = self._posted_property(place.entity_set, name, members, current)
        await self.entities.update(place.entity_set, place.key, values, "UpdateProperty")
        return await self._done("UpdateProperty", place.entity_set, place.key, values)

    def _posted_property(
        self, entity_set: EntitySet, name: str, members: Sequence[str], current: Any
    ) -> Values:
        if not media.is_json(self.ask.headers.get("Content-Type")):
            raise ODataError("Unsupported media type requested.", status=415)
        if not members:
            values = verbose_json.parse_posted(self.ask.body, entity_set.entity_type, self.model)
            if values.keys() != {name}:
                raise ODataError(f"The request body must hold the property '{name}' and nothing else.")
            return values
        # A member is written by writing the complex value with the member replaced.
        body = _json(self.ask.body)
        if not isinstance(body, dict) or body.keys() != {members[-1]}:
            raise ODataError(f"The request body must hold the member '{members[-1]}' and nothing else.")
        wrapped = json.dumps({name: body}).encode()
        posted = verbose_json.parse_posted(wrapped, entity_set.entity_type, self.model)
        return {name: (current or {}) | posted[name]}

    # Links

    async def _links(self) -> LocalAnswer:
        """POST and PUT tie, DELETE unties (6.6)."""
        source, step = self.path.entity_set, self.path.navigation[0]
        relationship = self.entities.rules.relationships.of(source, step.name) if source else None
        key = self.path.key
        if source is None or relationship is None or key is None:
            raise dialect.not_found(step.name)
        if self.path.count:
            raise ODataError("Links are not counted.")
        links = Links(self.entities, "ChangeLinks")
        await self.entities.require(source, key)
        if self.method == "DELETE":
            if relationship.many and step.key is None:
                raise dialect.not_allowed("GET", "POST")
            await links.untie(source, key, relationship, step.key)
        elif self.method == "POST" or (self.method == "PUT" and not relationship.many):
            if step.key is not None:
                raise dialect.not_allowed("GET", "DELETE")
            await links.tie(source, key, relationship, self._linked(relationship))
        else:
            raise dialect.not_allowed("GET", "POST", "DELETE")
        return await self._done("ChangeLinks", source, key)

    def _linked(self, relationship: Relationship) -> EntityKey:
        """The key in a posted URL, which must lie below the service root: another service's is refused."""
        if media.is_json(self.ask.headers.get("Content-Type")):
            body = _json(self.ask.body)
            if body is None:
                raise ODataError("The request body is not valid JSON.")
            uri = body.get("uri") if isinstance(body, dict) else None
        else:
            uri = atom.parse_links_body(self.ask.body)
        if not isinstance(uri, str):
            raise ODataError("The request body is no link.")
        below = self.ask.below_root(uri)
        if below is None:
            raise ODataError(f"The URI '{uri}' is not valid because it is not based on '{self.ask.root}/'.")
        path = parse_resource_path(below, self.model)
        if path.entity_set is not relationship.target or path.key is None or path.navigation:
            raise invalid_argument(f"The link must lead to {relationship.target.name}.")
        return path.key


def _json(body: bytes) -> Any:
    """The value; None for what is no JSON."""
    try:
        return json.loads(body.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return None
