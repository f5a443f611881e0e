"""What a primitive type is to this package, and the errors its readers raise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from proxy.odata.errors import ODataError


@dataclass(frozen=True, slots=True)
class Primitive:
    """One primitive type.

    `from_json` takes a parsed JSON value, `to_json_text` gives JSON text as WCF Data Services writes it;
    `from_atom` and `to_atom` handle unescaped element text; `from_literal` and `to_literal` a decoded URI
    literal, suffix and quotes included.
    """

    name: str
    from_json: Callable[[Any], Any]
    to_json_text: Callable[[Any], str]
    from_atom: Callable[[str], Any]
    to_atom: Callable[[Any], str]
    from_literal: Callable[[str], Any]
    to_literal: Callable[[Any], str]


def shown(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def unfit(type_name: str, value: object) -> ODataError:
    return ODataError(f"The value '{shown(value)}' is not a valid {type_name}.")


def unrecognized(type_name: str, text: str) -> ODataError:
    return ODataError(f"Unrecognized '{type_name}' literal '{shown(text)}'.")
