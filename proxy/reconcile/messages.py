"""SOAP messages on their way through: what they name is marked before they can take effect (rule 10).

The mark is an intent like that of any write: it is committed before the message's last byte leaves, nobody
stores the entities while it is open, and it ends with the answer. Only a fetch begun after that counts again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Never

from proxy.odata.edm import EntityKey, EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.odata.soap import read_message
from proxy.odata.verbose_json import parse_entity, slice_reply
from proxy.reconcile.authority import Epochs
from proxy.reconcile.errors import OnlyUpstream
from proxy.reconcile.mirror import Mirror
from proxy.reconcile.observations import IntentOpened, IntentSettled, Observe, StoreFailed
from proxy.reconcile.outcomes import touched_by
from proxy.reconcile.ports import (
    Intent,
    NewIntent,
    Outcome,
    Provenance,
    Settlement,
    StoreUnavailable,
    Touched,
)


@dataclass(frozen=True, slots=True)
class Messages:
    """Marks what messages name. `in_flight`: intents that this process is working on."""

    mirror: Mirror
    in_flight: set[int]
    observe: Observe
    now: Callable[[], datetime]

    @property
    def may_refuse(self) -> bool:
        """Whether any set was ever cut over."""
        return bool(self.mirror.sets.authorities.holdings())

    async def mark(self, body: bytes, model: Model, provenance: Provenance) -> Intent | None:
        """Commit the mark of what the message names, and of its declared effects; None where there is nothing
        to mark, or no way to: Postgres being away keeps nothing from passing through.

        Raises AuthorityMoving, and OnlyUpstream where the mirror is the authority of what is named or made;
        without Postgres, as far as that was known before.
        """
        message = read_message(body)
        if message is None:
            return None
        named = [
            Touched(entity_set, ((entity_set.entity_type.key[0], identity),))
            for logical_name, identity in message.entities
            for entity_set in _sets_of(logical_name, model)
        ]
        made = {each.name for logical_name in message.made for each in _sets_of(logical_name, model)}
        names = {entity.entity_set.name for entity in named} | made
        if names and self.may_refuse:
            await self.mirror.sets.authorities.on_its_side(names, _let_pass, self._refuse)
        if not named:
            return None
        try:
            touched = [*named[1:]]
            for entity in named:
                touched += await self._effects(entity.entity_set, entity.key, model)
            new = NewIntent(
                method=f"Soap{message.name}",
                entity_set=named[0].entity_set,
                target=named[0].key,
                touched=touched,
                body=b"",  # nothing of it can be read back
                content_type="",
                before=None,
                provenance=provenance,
                opened_at=self.now(),
            )
            intent = await self.mirror.sets.authorities.on_its_side(
                names,
                lambda epochs: self.mirror.store.open_intent(replace(new, epochs=epochs)),
                self._refuse,
            )
        except StoreUnavailable as error:
            self.observe(StoreFailed("message", str(error)))
            return None
        self.in_flight.add(intent.id)
        self.observe(IntentOpened(intent.id, intent.method, intent.entity_set))
        return intent

    async def answered(self, intent: Intent, outcome: Outcome | None, model: Model) -> None:
        """Upstream answered, or (None) did not: then the intent stays open, for the settler to end."""
        try:
            if outcome is not None:
                number = await self.mirror.store.next_fetch_number()
                key = () if intent.key is None else ((intent.entity_set, intent.key),)
                stale = [
                    Touched(model.entity_sets[name], entity_key)
                    for name, entity_key in (*key, *intent.touched)
                    if name in model.entity_sets
                ]
                await self.mirror.store.settle_intent(intent, Settlement(outcome, number, stale=stale))
                self.observe(IntentSettled(intent.id, outcome.value, intent.entity_set))
        except StoreUnavailable as error:
            self.observe(StoreFailed("message", str(error)))
        finally:
            self.in_flight.discard(intent.id)

    async def _refuse(self, _: Epochs) -> Never:
        raise OnlyUpstream("Upstream is not the authority of what this message names: it was not sent.")

    async def _effects(self, entity_set: EntitySet, key: EntityKey, model: Model) -> list[Touched]:
        """What a change of the entity is declared to change, by its state as the mirror holds it."""
        effects = self.mirror.sets.policy(entity_set).effects
        held = (await self.mirror.store.get(entity_set, [key])).get(key) if effects else None
        if held is None or held.document is None:
            return []
        try:
            text = held.document.replace("\x01", "").replace("\x02", "")
            (raw,) = slice_reply(f'{{"d":{text}}}').values
            return touched_by(effects, parse_entity(raw, entity_set.entity_type, model), model)
        except ODataError:
            return []


async def _let_pass(_: Epochs) -> None:
    """Upstream is the authority."""


def _sets_of(logical_name: str, model: Model) -> list[EntitySet]:
    """The sets whose entities Dynamics calls by that name, and that a message's id is the key of."""
    return [
        entity_set
        for entity_set in model.entity_sets.values()
        if entity_set.entity_type.name.lower() == logical_name.lower()
        and [entity_set.entity_type.properties[name].type for name in entity_set.entity_type.key]
        == ["Edm.Guid"]
    ]
