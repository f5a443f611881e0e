"""Values on their way into the database: what the platform does to them before it keeps them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import ROUND_HALF_EVEN, Decimal
from typing import Any

from proxy.odata.edm import EntitySet
from proxy.sandbox import faultcodes
from proxy.sandbox.schema import Schema

_MONEY_STEP = Decimal("0.0001")
_MONEY_LIMIT = Decimal("922337203685477.5807")
# SQL Server's datetime begins here.
_FIRST_DATE = datetime(1753, 1, 1)
# Option sets whose values the sandbox knows; the document says nothing about them (section 10).
_OPTIONS = {
    "GenderCode": range(1, 3),
    "PreferredContactMethodCode": range(1, 6),
    "CustomerTypeCode": range(1, 13),
    "StatusCode": range(1, 1_000_000_000),
    "statuscode": range(1, 1_000_000_000),
}
_SERVER_KEPT = frozenset(
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
_KEPT_AFTER_CREATE = frozenset({"OwnerId", "OverriddenCreatedOn", "ParentId"})


def is_server_kept(entity_set: EntitySet, name: str, *, creating: bool) -> bool:
    """Whether a client's value for the property is ignored (6.2, 6.7)."""
    properties = entity_set.entity_type.properties
    if name in _SERVER_KEPT or (not creating and name in _KEPT_AFTER_CREATE):
        return True
    if not creating and name == entity_set.entity_type.key[0]:
        return True
    if name == "FullName" and "LastName" in properties:
        return True
    return name.endswith("_Base") and name.removesuffix("_Base") in properties


def stored(schema: Schema, entity_set: EntitySet, name: str, value: Any) -> Any:
    """The value as it is kept: '' and complex values of nulls become null, money gets four decimals.

    Raises ODataError for what the platform refuses: a lookup that does not say to which type it points or
    points at nothing, an option that does not exist, money or a date out of range.
    """
    if isinstance(value, str):
        return value or None
    if isinstance(value, datetime):
        return _moment(entity_set, name, value)
    if not isinstance(value, Mapping):
        return value
    kind = entity_set.entity_type.properties[name].type.rpartition(".")[2]
    if kind == "EntityReference":
        return _reference(schema, entity_set, name, value)
    if value.get("Value") is None:
        return None
    if kind == "Money":
        amount = Decimal(value["Value"])
        if abs(amount) > _MONEY_LIMIT:
            raise faultcodes.out_of_range(entity_set, name, amount)
        return {"Value": amount.quantize(_MONEY_STEP, ROUND_HALF_EVEN)}
    if kind == "OptionSetValue" and value["Value"] not in _OPTIONS.get(name, (value["Value"],)):
        raise faultcodes.out_of_range(entity_set, name, value["Value"])
    return dict(value)


def _moment(entity_set: EntitySet, name: str, value: datetime) -> datetime:
    if value.tzinfo is None and value < _FIRST_DATE:
        raise faultcodes.out_of_range(entity_set, name, value)
    return value.replace(microsecond=value.microsecond // 1000 * 1000)


def _reference(schema: Schema, entity_set: EntitySet, name: str, value: Mapping[str, Any]) -> Any:
    if value.get("Id") is None:
        return None
    logical = value.get("LogicalName")
    if logical is None:
        if schema.is_polymorphic(entity_set, name):
            raise faultcodes.invalid_argument(f"The lookup '{name}' needs a LogicalName.")
        logical = schema.targets(entity_set, name)[0]
    return {"Id": value["Id"], "LogicalName": logical.lower()}
