"""What the platform does to values on their way in, and fills in by itself; pure (field manual, 6 and 7).

Only what the manual states is done. What an organisation's own plug-ins and option sets do beside it is not
in any document: `initial` in a set's policy says what is known of it.

Values are as `verbose_json.parse_entity` gives them: a null complex value is a dict of Nones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from proxy.odata.edm import EntitySet, Model, Property
from proxy.odata.errors import ODataError
from proxy.odata.primitives import PRIMITIVES
from proxy.odata.relationships import Relationships, is_reference, logical_name

Values = dict[str, Any]

_MONEY_STEP = Decimal("0.0001")  # 5.2
_MONEY_LIMIT = Decimal("922337203685477.5807")
_FIRST_DATE = datetime(1753, 1, 1)  # SQL Server's
# A client's value for these is passed over (6.2, 6.7).
_SERVERS_OWN = frozenset(
    {
        "CreatedOn",
        "CreatedBy",
        "CreatedOnBehalfBy",
        "ModifiedOn",
        "ModifiedBy",
        "ModifiedOnBehalfBy",
        "OwningUser",
        "OwningTeam",
        "OwningBusinessUnit",
        "VersionNumber",
        "StateCode",
        "statecode",
        "ExchangeRate",
        "Merged",
        "MasterId",
        "Address1_AddressId",
        "Address2_AddressId",
        "AddressNumber",
        "OpenDeals",
        "OpenRevenue",
    }
)
# Once there, these change by other messages than OData's.
_SERVERS_AFTER_CREATE = frozenset({"OwnerId", "OverriddenCreatedOn", "ParentId"})
# Lookups whose records may be of several types, so that an id alone does not say which (6.5).
_POLYMORPHIC = frozenset(
    {"ParentCustomerId", "CustomerId", "OwnerId", "RegardingObjectId", "ParentId", "ObjectId"}
)
_USERS = frozenset(
    {"CreatedBy", "ModifiedBy", "CreatedOnBehalfBy", "ModifiedOnBehalfBy", "OwnerId", "OwningUser"}
)
# A record goes with what it refers to by one of these; any other lookup is emptied (7.3).
PARENTAL = frozenset({"ParentCustomerId", "RegardingObjectId", "ParentId", "ObjectId"})


@dataclass(frozen=True, slots=True)
class Author:
    """Who writes, and the business unit: lookups, or None where nobody is known."""

    user: Mapping[str, Any] | None = None
    business_unit: Mapping[str, Any] | None = None


def invalid_argument(message: str) -> ODataError:
    """The platform's refusal of what cannot be meant (8.3)."""
    return ODataError(message, code="-2147220989")


def unexpected(message: str) -> ODataError:
    """The platform's refusal of what it did not expect (8.3)."""
    return ODataError(message, status=500, code="-2147220970")


def duplicate_key(entity_set: EntitySet) -> ODataError:
    """The platform's refusal of a key that is taken (8.3)."""
    return ODataError(
        f"Cannot insert duplicate key: a record of {logical_name(entity_set)} with it exists.",
        status=500,
        code="-2147220937",
    )


def is_servers_own(entity_set: EntitySet, name: str, *, creating: bool) -> bool:
    """Whether a client's value for the property is passed over."""
    properties = entity_set.entity_type.properties
    if name in _SERVERS_OWN or (not creating and name in _SERVERS_AFTER_CREATE):
        return True
    if name in entity_set.entity_type.key or (name == "FullName" and "LastName" in properties):
        return True
    return name.endswith("_Base") and name.removesuffix("_Base") in properties


def is_intersect(entity_set: EntitySet) -> bool:
    """Rows of a relationship of many to many: a key, two other guids, no stamp but VersionNumber (10)."""
    properties = entity_set.entity_type.properties
    kinds = [declared.type for declared in properties.values()]
    return kinds.count("Edm.Guid") == 3 and len(kinds) <= 4 and "ModifiedOn" not in properties


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules for one metadata document."""

    model: Model
    relationships: Relationships

    def accepted(self, posted: Mapping[str, Any], entity_set: EntitySet, *, creating: bool) -> Values:
        """What is kept of what a client posts. Raises ODataError for what the platform refuses."""
        properties = entity_set.entity_type.properties
        return {
            name: self._kept(value, properties[name], entity_set)
            for name, value in posted.items()
            if name in properties and not is_servers_own(entity_set, name, creating=creating)
        }

    def _kept(self, value: Any, declared: Property, entity_set: EntitySet) -> Any:
        complex_type = self.model.complex_type(declared.type)
        if complex_type is None:
            if isinstance(value, str):
                return value or None  # 6.1
            return _moment(value, declared, entity_set) if isinstance(value, datetime) else value
        whole: Values = {**dict.fromkeys(complex_type.properties), **(value or {})}
        if is_reference(declared):
            return self._reference(whole, declared, entity_set)
        if declared.type.endswith(".Money") and whole.get("Value") is not None:
            amount = whole["Value"]
            if abs(amount) > _MONEY_LIMIT:
                raise _out_of_range(amount, declared, entity_set)
            whole["Value"] = amount.quantize(_MONEY_STEP, ROUND_HALF_EVEN)
        return whole

    def _reference(self, whole: Values, declared: Property, entity_set: EntitySet) -> Values:
        """Its name is not the client's to say (6.5)."""
        if whole.get("Id") is None:
            return dict.fromkeys(whole)
        logical = whole.get("LogicalName")
        if logical is None:
            targets = self._targets(entity_set, declared.name)
            if declared.name in _POLYMORPHIC or len(targets) != 1:
                raise invalid_argument(f"The lookup '{declared.name}' needs a LogicalName.")
            (logical,) = targets
        return {**whole, "LogicalName": logical.lower(), "Name": None}

    def _targets(self, entity_set: EntitySet, lookup: str) -> set[str]:
        """Logical names of what a lookup may hold."""
        if lookup in _USERS:
            return {"systemuser"}
        return {
            logical_name(relationship.target)
            for relationship in self.relationships.each(entity_set)
            if relationship.kind == "lookup" and relationship.lookup == lookup
        }

    def blank(
        self,
        entity_set: EntitySet,
        author: Author,
        now: datetime,
        version: int | None,
        initial: Mapping[str, Any],
    ) -> Values:
        """A new entity, keyless, as the platform fills it before it looks at what was sent (7.1).

        `now`: naive UTC, whole seconds; `initial`: values by property path, `StatusCode/Value`.
        """
        filled: Values = {
            **{name: {"Value": 0} for name in ("StateCode", "statecode")},
            **{name: {"Value": 1} for name in ("StatusCode", "statuscode")},
            **dict.fromkeys(("CreatedOn", "ModifiedOn"), now),
            **dict.fromkeys(("CreatedBy", "ModifiedBy", "OwnerId", "OwningUser"), author.user),
            "OwningBusinessUnit": author.business_unit,
            "ActivityTypeCode": logical_name(entity_set),
            "Merged": False,
            "VersionNumber": version,
        }
        values: Values = {}
        for name, declared in entity_set.entity_type.properties.items():
            value = filled.get(name)
            if name.startswith("DoNot") and declared.type == "Edm.Boolean":
                value = False
            complex_type = self.model.complex_type(declared.type)
            if complex_type is not None:
                value = dict.fromkeys(complex_type.properties) | dict(value or {})
            values[name] = value
        self._begin(values, entity_set, initial)
        return values

    def _begin(self, values: Values, entity_set: EntitySet, initial: Mapping[str, Any]) -> None:
        for path, value in initial.items():
            name, _, member = path.partition("/")
            if name not in values:
                continue
            names = (name, member) if member else (name,)
            primitive = PRIMITIVES[self.model.property_at(entity_set.entity_type, names).type]
            read = primitive.from_json(value)
            values[name] = {**values[name], member: read} if member else read


def derive(values: Values) -> None:
    """Fill what the platform works out from other values: FullName, money in the base currency (6.7)."""
    if {"FullName", "FirstName", "LastName"} <= values.keys():
        values["FullName"] = " ".join(filter(None, (values["FirstName"], values["LastName"]))) or None
    rate = values.get("ExchangeRate")
    for name, value in values.items():
        amount = values.get(name.removesuffix("_Base")) if name.endswith("_Base") else None
        if isinstance(value, dict) and isinstance(amount, dict) and "Value" in value:
            base = amount["Value"]
            if base is not None and rate not in (None, 0):
                base = (base / rate).quantize(_MONEY_STEP, ROUND_HALF_EVEN)
            values[name] = {**value, "Value": base}


def _moment(value: datetime, declared: Property, entity_set: EntitySet) -> datetime:
    if value.tzinfo is None and value < _FIRST_DATE:
        raise _out_of_range(value, declared, entity_set)
    return value.replace(microsecond=value.microsecond // 1000 * 1000)


def _out_of_range(value: object, declared: Property, entity_set: EntitySet) -> ODataError:
    return unexpected(
        f"The value {value} of '{declared.name}' on record of type '{logical_name(entity_set)}'"
        " is outside the valid range."
    )
