"""Plug-ins and workflows: they rewrite what is saved, and touch other records later (field manual, 7.3)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from proxy.sandbox.clock import Clock

Values = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plugin:
    """What runs on every create and update of `entity_set` by a client.

    `rewrite`: by property, what becomes of a value that is saved. `touches`: a lookup property, whose record
    is given the values `sets`, `after_s` seconds of the server's clock later.
    """

    entity_set: str
    rewrite: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    touches: str = ""
    sets: Mapping[str, Any] = field(default_factory=dict)
    after_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Touch:
    """A record that a plug-in is going to change; its entity by logical name."""

    due: datetime
    logical_name: str
    key: uuid.UUID
    values: Mapping[str, Any]


class Plugins:
    """The plug-ins of one organisation, and what they have yet to do."""

    def __init__(self, plugins: tuple[Plugin, ...], clock: Clock) -> None:
        self._plugins = plugins
        self._clock = clock
        self._waiting: list[Touch] = []

    def rewritten(self, set_name: str, values: Values) -> Values:
        """`values` as they are saved."""
        for plugin in self._plugins:
            if plugin.entity_set == set_name:
                values = {
                    name: plugin.rewrite[name](value) if name in plugin.rewrite else value
                    for name, value in values.items()
                }
        return values

    def saved(self, set_name: str, row: Mapping[str, Any]) -> None:
        """A client's write took effect."""
        for plugin in self._plugins:
            reference = row.get(plugin.touches) if plugin.entity_set == set_name else None
            if reference is not None:
                due = self._clock.now() + timedelta(seconds=plugin.after_s)
                self._waiting.append(Touch(due, reference["LogicalName"], reference["Id"], plugin.sets))

    def due(self) -> list[Touch]:
        """What is to be done by now; given once."""
        now = self._clock.now()
        due = [touch for touch in self._waiting if touch.due <= now]
        self._waiting = [touch for touch in self._waiting if touch.due > now]
        return due
