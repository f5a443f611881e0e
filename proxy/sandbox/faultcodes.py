"""The platform's refusals, with the codes and statuses of field manual 8.3."""

from __future__ import annotations

import uuid

from proxy.odata.edm import EntitySet
from proxy.odata.errors import ODataError
from proxy.odata.relationships import logical_name


def does_not_exist(entity_set: EntitySet, key: uuid.UUID) -> ODataError:
    return ODataError(
        f"{logical_name(entity_set)} With Id = {key} Does Not Exist", status=404, code="-2147220969"
    )


def no_privilege(entity_set: EntitySet) -> ODataError:
    return ODataError(
        f"The caller is missing a privilege on {logical_name(entity_set)}.", status=403, code="-2147220960"
    )


def duplicate_key(entity_set: EntitySet) -> ODataError:
    return ODataError(
        f"Cannot insert duplicate key: a record of {logical_name(entity_set)} with it exists.",
        status=500,
        code="-2147220937",
    )


def invalid_argument(message: str) -> ODataError:
    return ODataError(message, status=400, code="-2147220989")


def unexpected(message: str) -> ODataError:
    return ODataError(message, status=500, code="-2147220970")


def out_of_range(entity_set: EntitySet, name: str, value: object) -> ODataError:
    return unexpected(
        f"The value {value} of '{name}' on record of type '{logical_name(entity_set)}'"
        " is outside the valid range."
    )


def paging_cookie_required() -> ODataError:
    return ODataError(
        "Paging cookie is required when trying to retrieve a set of records on any high pages:"
        " the total of records passed over must stay below 5000.",
        status=500,
        code="-2147220715",
    )
