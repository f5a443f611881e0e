"""How SQL Server compares: strings under Latin1_General_CI_AI, keys as uniqueidentifiers.

This is the sandbox's own reading of the rules (field manual 3.1 and 4.4), kept apart from whatever the
proxy does, so that the two can be held against each other.
"""

from __future__ import annotations

import functools
import unicodedata
import uuid
from collections.abc import Callable
from typing import Any


@functools.lru_cache(maxsize=200_000)
def fold(text: str) -> str:
    """Without case and accents; blanks stay. What LIKE compares.

    Accents are what Unicode calls combining marks; the vowel signs of many scripts are none. A sigma is a
    sigma, wherever it stands in a word.
    """
    if text.isascii():
        return text.lower()
    decomposed = unicodedata.normalize("NFKD", text)
    letters = "".join(character for character in decomposed if not _is_accent(character))
    return one_to_one(letters, str.lower).replace("\u03c2", "\u03c3")


@functools.cache
def _is_accent(character: str) -> bool:
    return unicodedata.name(character, "").startswith("COMBINING ")


def one_to_one(text: str, convert: Callable[[str], str]) -> str:
    """The text converted letter by letter; a letter that would become two stays, as it does in SQL Server."""
    return "".join(changed if len(changed := convert(character)) == 1 else character for character in text)


@functools.lru_cache(maxsize=200_000)
def fold_trimmed(text: str) -> str:
    """`fold` without trailing blanks, which `=`, `<` and ORDER BY ignore."""
    return fold(text).rstrip(" ")


def guid_order(value: uuid.UUID) -> bytes:
    """A sort key in the order of uniqueidentifier: the last six bytes weigh most (4.4)."""
    raw = value.bytes_le
    return raw[10:16] + raw[8:10] + raw[6:8] + raw[4:6] + raw[0:4]


def comparable(value: Any) -> Any:
    """The value in a form whose `==` and `<` are SQL Server's."""
    if isinstance(value, str):
        return fold_trimmed(value)
    if isinstance(value, uuid.UUID):
        return guid_order(value)
    return value


@functools.total_ordering
class Descending:
    """Turns the order of one sort column round."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Descending) and bool(self.value == other.value)

    def __lt__(self, other: Descending) -> bool:
        return bool(other.value < self.value)

    __hash__ = None  # type: ignore[assignment]


def sort_key(value: Any, *, descending: bool = False) -> Any:
    """A column's part of a sort key: nulls come first ascending (7.2)."""
    key = (value is not None, 0 if value is None else comparable(value))
    return Descending(key) if descending else key
