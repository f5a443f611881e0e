"""What statements ask of the authorities: does a write see them right, is a set the mirror's?"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import BigInteger, Boolean, ColumnElement, Text, bindparam, cast, exists, func
from sqlalchemy.dialects.postgresql import ARRAY

from proxy.reconcile.authority import Authority, Epochs
from proxy.store.schema import AUTHORITIES

SETS, EPOCHS = cast(bindparam("sets"), ARRAY(Text)), cast(bindparam("epochs"), ARRAY(BigInteger))


def are_epochs() -> ColumnElement[bool]:
    """True where the parameters of `epoch_values` are the sets' epochs; they stay so until the transaction
    ends. Comes before anything that locks a row."""
    return func.syncpoint.are_epochs(SETS, EPOCHS, type_=Boolean)


def epoch_values(epochs: Epochs) -> Mapping[str, Any]:
    """Parameters of `are_epochs`."""
    return {"sets": list(epochs), "epochs": list(epochs.values())}


def is_mirrors(entity_set: Any) -> ColumnElement[bool]:
    """True where the mirror is the authority of the set."""
    return exists().where(
        AUTHORITIES.c.entity_set == entity_set, AUTHORITIES.c.authority == Authority.MIRROR.value
    )
