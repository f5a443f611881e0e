"""Generated records: the same for the same seed, whatever was asked for first.

Every row is a function of (seed, set, number), so that sets are made when first read and lookups can point
at rows of sets that do not exist yet.
"""

from __future__ import annotations

import random
import uuid
import zlib
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from proxy.odata.edm import EntitySet, Property
from proxy.odata.relationships import is_reference, logical_name
from proxy.sandbox import words
from proxy.sandbox.schema import Schema

Values = dict[str, Any]
Maker = Callable[[random.Random, int], Any]

DEMO_COUNTS = {
    "AccountSet": 2000,
    "ContactSet": 5000,
    "SystemUserSet": 30,
    "CustomerAddressSet": 14_000,
    "TaskSet": 3000,
    "TeamSet": 6,
    "TeamMembershipSet": 75,
    "BusinessUnitSet": 5,
    "RoleSet": 12,
    "AuditSet": 400,
    "optevia_sectorSet": 40,
}
_OTHER_COUNT = 50
_FIRST_STAMP = datetime(2012, 1, 2, 8, 0, 1)
_CREATION_SPAN_S = 3 * 365 * 86400
_MODIFICATION_SPAN_S = 500 * 86400
_ADDRESS_MEMBERS = ("Address1_", "Address2_")
# Version numbers of generated rows lie below those of rows written since.
FIRST_LIVE_VERSION = 1_000_000_000
_VERSIONS_PER_SET = 500_000


class Generator:
    """Makes the rows of every set of a schema.

    `rows`: so many in each set; None for the demo organisation's own counts. CustomerAddress rows belong to
    the accounts first, two each, then to the contacts.
    """

    def __init__(self, schema: Schema, rows: int | None, seed: int) -> None:
        self._schema = schema
        self._rows = rows
        self._seed = seed
        self._keys: dict[str, tuple[uuid.UUID, ...]] = {}
        self._makers: dict[str, list[tuple[str, Maker]]] = {}
        self._first_version = {
            name: FIRST_LIVE_VERSION - (number + 1) * _VERSIONS_PER_SET
            for number, name in enumerate(schema.model.entity_sets)
        }

    def count(self, entity_set: EntitySet) -> int:
        return self._rows if self._rows is not None else DEMO_COUNTS.get(entity_set.name, _OTHER_COUNT)

    def keys(self, entity_set: EntitySet) -> tuple[uuid.UUID, ...]:
        """The keys of the set's generated rows, in the order of their numbers."""
        keys = self._keys.get(entity_set.name)
        if keys is None:
            source = random.Random(self._number(entity_set, -1))  # noqa: S311
            made: dict[uuid.UUID, None] = {}
            while len(made) < self.count(entity_set):
                made[new_key(source)] = None
            keys = self._keys[entity_set.name] = tuple(made)
        return keys

    def rows(self, entity_set: EntitySet) -> Iterator[tuple[uuid.UUID, Values]]:
        for number, key in enumerate(self.keys(entity_set)):
            values = self._row(entity_set, number)
            self._copy_addresses(entity_set, number, values)
            yield key, values

    def _number(self, entity_set: EntitySet, number: int) -> int:
        return (self._seed << 64) + (zlib.crc32(entity_set.name.encode()) << 24) + number + 1

    def _row(self, entity_set: EntitySet, number: int) -> Values:
        source = random.Random(self._number(entity_set, number))  # noqa: S311
        values = {name: make(source, number) for name, make in self._makers_of(entity_set)}
        values[self._schema.key_name(entity_set)] = self.keys(entity_set)[number]
        if "VersionNumber" in values:
            values["VersionNumber"] = self._first_version[entity_set.name] + number
        if "ModifiedOn" in values and "CreatedOn" in values:
            values["ModifiedOn"] = max(values["ModifiedOn"], values["CreatedOn"])
        derive(values)
        if entity_set.name == "CustomerAddressSet":
            self._own_address(number, values)
        return values

    def _makers_of(self, entity_set: EntitySet) -> list[tuple[str, Maker]]:
        makers = self._makers.get(entity_set.name)
        if makers is None:
            title = self._schema.title_property(entity_set.name)
            makers = self._makers[entity_set.name] = [
                (name, self._maker(entity_set, declared, is_title=name == title))
                for name, declared in entity_set.entity_type.properties.items()
            ]
        return makers

    def _maker(self, entity_set: EntitySet, declared: Property, *, is_title: bool) -> Maker:
        if is_reference(declared):
            return self._reference_maker(entity_set, declared.name)
        if declared.type == "Edm.Guid":
            return self._guid_maker(entity_set, declared.name)
        if declared.type == "Edm.String":
            make = _text_maker(declared.name, entity_set.entity_type.name)
            return make if is_title or declared.name in ("FirstName", "LastName") else _often_null(make)
        fixed = _FIXED_MAKERS.get(declared.name)
        if fixed is not None:
            return fixed
        kind = declared.type.rpartition(".")[2]
        if kind == "BooleanManagedProperty":
            return _managed_property_maker(declared.name)
        make = _KIND_MAKERS.get(kind, _null)
        return _often_null(make) if declared.nullable or kind in ("OptionSetValue", "Money") else make

    def _reference_maker(self, entity_set: EntitySet, name: str) -> Maker:
        targets = self._schema.targets(entity_set, name)
        if name == "RegardingObjectId" and len(targets) > 1:
            makers = [self._pointer_maker(name, target) for target in targets]
            return lambda source, number: makers[number % len(makers)](source, number)
        if not targets or name in ("MasterId", "OwningTeam", "CreatedOnBehalfBy", "ModifiedOnBehalfBy"):
            return _null
        return self._pointer_maker(name, "account" if "account" in targets else targets[0])

    def _pointer_maker(self, name: str, logical: str) -> Maker:
        """A lookup that holds records of one type."""
        keys = self.keys(self._schema.sets_by_logical_name[logical])
        if not keys:
            return _null
        if name in ("ParentCustomerId", "PrimaryContactId"):
            # So that an account's primary contact is one of its own contacts.
            return lambda source, number: (
                {"Id": keys[number % len(keys)], "LogicalName": logical} if source.random() < 0.8 else None
            )
        if name in ("OwnerId", "OwningUser"):
            return lambda source, number: {"Id": keys[number * 7 % len(keys)], "LogicalName": logical}
        share = 1.0 if name in ("CreatedBy", "ModifiedBy", "OwningBusinessUnit", "UserId") else 0.7
        return lambda source, number: (
            {"Id": source.choice(keys), "LogicalName": logical} if source.random() < share else None
        )

    def _guid_maker(self, entity_set: EntitySet, name: str) -> Maker:
        if name == self._schema.key_name(entity_set):
            return _null
        target = self._schema.set_by_key_name(name)
        keys = self.keys(target) if target is not None else ()
        if not keys:
            return _null if name.startswith(_ADDRESS_MEMBERS) else (lambda source, number: new_key(source))
        if self._schema.is_intersect(entity_set.name):
            # The first guid counts through its keys, the second moves on beside it: no pair comes twice.
            others = [
                other
                for other, declared in entity_set.entity_type.properties.items()
                if declared.type == "Edm.Guid" and other != self._schema.key_name(entity_set)
            ]
            if name == others[0]:
                return lambda source, number: keys[number % len(keys)]
            first = self._schema.set_by_key_name(others[0])
            step = max(1, self.count(first)) if first is not None else 1
            return lambda source, number: keys[(number // step + number) % len(keys)]
        return lambda source, number: source.choice(keys)

    def _owner_of_address(self, number: int) -> tuple[EntitySet, int] | None:
        """The record that address row `number` belongs to, and that record's number."""
        owner = number // 2
        for name in ("AccountSet", "ContactSet"):
            owners = self._schema.model.entity_sets.get(name)
            if owners is None:
                continue
            if owner < self.count(owners):
                return owners, owner
            owner -= self.count(owners)
        return None

    def _own_address(self, number: int, values: Values) -> None:
        owner = self._owner_of_address(number)
        values["AddressNumber"] = number % 2 + 1
        values["ParentId"] = None
        if owner is not None:
            owners, index = owner
            values["ParentId"] = {"Id": self.keys(owners)[index], "LogicalName": logical_name(owners)}
            if "ObjectTypeCode" in values:
                values["ObjectTypeCode"] = logical_name(owners)

    def _copy_addresses(self, entity_set: EntitySet, number: int, values: Values) -> None:
        """Account and Contact show what their address rows hold (7.3)."""
        addresses = self._schema.model.entity_sets.get("CustomerAddressSet")
        if addresses is None or entity_set.name not in ("AccountSet", "ContactSet"):
            return
        accounts = self._schema.model.entity_sets.get("AccountSet")
        before = self.count(accounts) if entity_set.name == "ContactSet" and accounts is not None else 0
        for slot, prefix in enumerate(_ADDRESS_MEMBERS):
            address_number = 2 * (before + number) + slot
            exists = address_number < self.count(addresses)
            address = self._row(addresses, address_number) if exists else {}
            for name in values:
                if name.startswith(prefix):
                    values[name] = address.get(name.removeprefix(prefix))
            if exists and f"{prefix}AddressId" in values:
                values[f"{prefix}AddressId"] = self.keys(addresses)[address_number]


def new_key(source: random.Random) -> uuid.UUID:
    """A key in the form of SQL Server's sequential ones."""
    node = 0x00155D010A00 + source.getrandbits(3)
    return uuid.UUID(fields=(source.getrandbits(32), source.getrandbits(16), 0xE611, 0x80, 0xC5, node))


def derive(values: Values) -> None:
    """Fill what the platform works out from other values: FullName, money in the base currency (6.7)."""
    if "FullName" in values and "LastName" in values:
        parts = [values.get("FirstName"), values.get("LastName")]
        values["FullName"] = " ".join(part for part in parts if part) or None
    for name in values:
        if name.endswith("_Base") and name.removesuffix("_Base") in values:
            values[name] = values[name.removesuffix("_Base")]


def _often_null(make: Maker) -> Maker:
    return lambda source, number: None if source.random() < 0.3 else make(source, number)


def _null(source: random.Random, number: int) -> None:
    return None


def _managed_property_maker(name: str) -> Maker:
    return lambda source, number: {
        "CanBeChanged": source.random() < 0.5,
        "ManagedPropertyLogicalName": name.lower(),
        "Value": source.random() < 0.5,
    }


def _moment(source: random.Random, number: int) -> datetime:
    return _FIRST_STAMP + timedelta(seconds=source.randrange(_CREATION_SPAN_S))


def _business_date(source: random.Random, number: int) -> datetime:
    """Midnights, eves of them (typed in summer time), and now and then a year nobody meant (5.2)."""
    day = datetime(2008, 1, 1) + timedelta(days=source.randrange(3000))
    chance = source.random()
    if chance < 0.03:
        return datetime(2103, 5, 17)
    return day + timedelta(hours=23) if chance < 0.4 else day


def _person_date(source: random.Random, number: int) -> datetime:
    return datetime(1935, 1, 1) + timedelta(days=source.randrange(22_000))


def _money(source: random.Random, number: int) -> dict[str, Decimal]:
    return {"Value": Decimal(source.randrange(10_000_000_000)).scaleb(-4)}


_KIND_MAKERS: dict[str, Maker] = {
    "OptionSetValue": lambda source, number: {"Value": source.randint(1, 5)},
    "Money": _money,
    "Boolean": lambda source, number: source.random() < 0.3,
    "Int16": lambda source, number: source.randint(-300, 300),
    "Int32": lambda source, number: source.choice((0, 1, 7, 50, 500, source.randrange(100_000), -1)),
    "Int64": lambda source, number: source.randrange(1 << 40),
    "Byte": lambda source, number: source.randrange(256),
    "Double": lambda source, number: round(source.uniform(-90, 90), 5),
    "Single": lambda source, number: float(source.randint(-100, 100)),
    "Decimal": lambda source, number: Decimal(source.randrange(1_000_000)).scaleb(-2),
    "DateTime": _business_date,
}
_FIXED_MAKERS: dict[str, Maker] = {
    "CreatedOn": _moment,
    "ModifiedOn": lambda source, number: (
        _moment(source, number) + timedelta(seconds=source.randrange(_MODIFICATION_SPAN_S))
    ),
    "OverriddenCreatedOn": _null,
    "BirthDate": _often_null(_person_date),
    "ExchangeRate": lambda source, number: Decimal("1.0000000000"),
    "StateCode": lambda source, number: {"Value": 0 if source.random() < 0.9 else 1},
    "statecode": lambda source, number: {"Value": 0 if source.random() < 0.9 else 1},
    "StatusCode": lambda source, number: {"Value": 1 if source.random() < 0.9 else 2},
    "statuscode": lambda source, number: {"Value": 1 if source.random() < 0.9 else 2},
    "GenderCode": _often_null(lambda source, number: {"Value": source.randint(1, 2)}),
    "NumberOfChildren": _often_null(lambda source, number: source.randrange(6)),
    "PercentComplete": _often_null(lambda source, number: source.randrange(101)),
    "Merged": lambda source, number: False,
}


def _company(source: random.Random) -> str:
    first, second = source.choice(words.COMPANY_WORDS), source.choice(words.COMPANY_WORDS)
    name = f"{first} {second} {source.choice(words.COMPANY_KINDS)}"
    chance = source.random()
    if chance < 0.05:
        return name.upper()
    return f"{name}  " if chance < 0.08 else name


def _phone(source: random.Random) -> str:
    return f"+44 {source.randint(20, 29)} {source.randint(1000, 9999)} {source.randint(1000, 9999)}"


def _person(source: random.Random) -> str:
    return f"{source.choice(words.FIRST_NAMES)} {source.choice(words.LAST_NAMES)}"


_TEXTS_BY_NAME: tuple[tuple[str, Callable[[random.Random], str]], ...] = (
    ("firstname", lambda source: source.choice(words.FIRST_NAMES)),
    ("lastname", lambda source: source.choice(words.LAST_NAMES)),
    ("fullname", _person),
    ("contactname", _person),
    ("city", lambda source: source.choice(words.CITIES)),
    ("country", lambda source: source.choice(words.COUNTRIES)),
    ("county", lambda source: source.choice(words.COUNTIES)),
    ("line1", lambda source: f"{source.randint(1, 300)} {source.choice(words.STREETS)}"),
    ("postalcode", lambda source: f"SW{source.randint(1, 20)}A {source.randint(1, 9)}AA"),
    (
        "email",
        lambda source: f"{source.choice(words.JOBS)[:3].lower()}{source.randrange(10_000)}@example.org",
    ),
    ("phone", _phone),
    ("fax", _phone),
    ("url", lambda source: f"http://www.example.org/{source.randrange(10_000)}?a=1&b=2"),
    ("jobtitle", lambda source: source.choice(words.JOBS)),
    ("subject", lambda source: source.choice(words.SUBJECTS)),
    ("description", lambda source: source.choice(words.TEXTS)),
    ("domainname", lambda source: f"CRM\\user{source.randrange(1000)}"),
)


def _text_maker(property_name: str, type_name: str) -> Maker:
    spelled = property_name.lower()
    if "sector" in type_name.lower() and spelled.endswith("name"):
        return lambda source, number: f"{source.choice(words.SECTORS)} {number}"
    for part, make in _TEXTS_BY_NAME:
        if part in spelled:
            return lambda source, number: make(source)
    if spelled.endswith("name"):
        return lambda source, number: _company(source)
    if spelled.endswith(("number", "code", "id")):
        return lambda source, number: f"{property_name[:2].upper()}-{source.randrange(1_000_000):06}"
    return lambda source, number: source.choice(words.TEXTS if source.random() < 0.2 else words.PLAIN)
