"""Batches and messages in mode `caller`: sent as their caller, and nothing kept of what must not be."""

from __future__ import annotations

import base64
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from batching import MIXED, changeset, part, replies, told, written
from logging_in import connection
from storing import query, tables_with, until
from world import World, world

from proxy.sandbox import Fault, Switches

USERS = {"CRM\\ada": "Lovelace1", "CRM\\grace": "Hopper1"}
ADA = "Basic " + base64.b64encode(b"CRM\\ada:Lovelace1").decode()
CALLER: dict[str, Any] = {"upstream__auth__mode": "caller", "defaults__secured": []}
SECURED = CALLER | {"sets.AccountSet.secured": ["Fax"]}
SECRET = "555-0142-secret"
OPEN = "SELECT id FROM syncpoint.intents WHERE closed_at IS NULL"
OUTCOMES = "SELECT outcome FROM syncpoint.intents ORDER BY id"
MESSAGE = (
    '<s:Envelope xmlns:s="http://schemas.xmlsoap.org/soap/envelope/"><s:Body><Execute><request><Parameters>'
    "<p><Id>{}</Id><LogicalName>account</LogicalName></p></Parameters><RequestName>SetState</RequestName>"
    "</request></Execute></s:Body></s:Envelope>"
)


def account(place: World, number: int = 0) -> str:
    return f"AccountSet(guid'{place.a_key('AccountSet', number)}')"


async def test_batches_and_messages_leave_on_their_callers_connection(database_url: str) -> None:
    switches = Switches(auth="ntlm", users=USERS, batch="serve")
    async with (
        world(database_url, switches=switches, rows=2, **CALLER) as place,
        connection(place.proxy_root) as grace,
        connection(place.proxy_root) as ada,
    ):
        path = f"/{account(place)}"
        await grace.log_in("CRM\\grace", USERS["CRM\\grace"], path)
        await ada.log_in("CRM\\ada", USERS["CRM\\ada"], path)
        place.clear()
        body = written(
            changeset(
                part("MERGE", account(place), {"Name": "One"}), part("POST", "AccountSet", {"Name": "Two"})
            ),
            part("GET", account(place, 1)),
        )
        answer = await ada.ask("/$batch", "POST", body, Content_Type=MIXED)
        assert told(replies(answer)) == [[204, 201], 200]
        ada.root = place.proxy.url
        message = MESSAGE.format(place.a_key("AccountSet")).encode()
        soap = "/XRMServices/2011/Organization.svc/web"
        assert (await ada.ask(soap, "POST", message, Content_Type="text/xml")).status == 200
        await until(
            lambda: (
                query(database_url, "SELECT count(*) FROM syncpoint.intents WHERE closed_at IS NULL")
                == [(0,)]
            )
        )
        await place.idle()
        assert {(entry.user, entry.status) for entry in place.sandbox.journal} <= {
            ("crm\\ada", 200),
            ("crm\\ada", 202),
        }
        assert (await grace.ask(path)).json()["d"]["Name"] == "One"


async def test_of_a_batch_that_posts_what_is_secured_nothing_is_kept(database_url: str) -> None:
    ahead = timedelta()
    switches = Switches(auth="basic", users=USERS, batch="serve")
    timeouts = {"upstream__read_timeout_s": 1, "upstream__write_limit_s": 60}
    async with world(
        database_url, switches=switches, rows=2, now=lambda: datetime.now(UTC) + ahead, **SECURED, **timeouts
    ) as place:
        await place.ask("/", Authorization=ADA)
        body = written(changeset(part("MERGE", account(place), {"Fax": SECRET, "Name": "Batched"})))
        send = {"body": body, "Content_Type": MIXED, "Authorization": ADA}
        assert told(replies(await place.ask("/$batch", "POST", **send))) == [[204]]
        assert (await place.ask(f"/{account(place)}", Authorization=ADA)).json()["d"]["Fax"] == SECRET
        assert query(database_url, 'SELECT "Name", "Fax" FROM mirror."AccountSet"') == [("Batched", None)]
        place.sandbox.faults.add(Fault("applied_no_answer", method="POST"))
        assert (await place.ask("/$batch", "POST", **send)).status == 504
        assert not await tables_with(database_url, SECRET)
        (intent,) = await place.proxy.store.open_intents()
        assert (intent.body, [key for _, key in intent.touched]) == (
            b"",
            [(("AccountId", uuid.UUID(place.a_key("AccountSet"))),)],
        )
        ahead = timedelta(seconds=120)
        await place.ask(f"/{account(place)}", Authorization=ADA)
        assert await place.proxy.store.open_intents() == []
        assert query(database_url, OUTCOMES) == [("applied",), ("undetermined",)]


async def test_an_unanswered_batch_settles_with_the_next_callers_read(database_url: str) -> None:
    switches = Switches(auth="basic", users=USERS, batch="serve")
    async with world(database_url, switches=switches, rows=2, upstream__read_timeout_s=1, **CALLER) as place:
        await place.ask("/", Authorization=ADA)
        body = written(changeset(*(part("MERGE", account(place, n), {"Name": "Batched"}) for n in range(2))))
        place.sandbox.faults.add(Fault("applied_no_answer", method="POST"))
        answer = await place.ask("/$batch", "POST", body=body, Content_Type=MIXED, Authorization=ADA)
        assert answer.status == 504
        shown = await place.ask(f"/{account(place, 1)}", Authorization=ADA)
        assert shown.json()["d"]["Name"] == "Batched"
        assert query(database_url, OUTCOMES) == [("applied",)]
        assert query(database_url, 'SELECT "Name", intents FROM mirror."AccountSet"') == [("Batched", 0)] * 2


@pytest.mark.parametrize("is_stated", [True, False])
async def test_a_batch_stores_only_of_sets_that_may_be_stored(database_url: str, is_stated: bool) -> None:
    stated = {"sets.AccountSet.secured": []} if is_stated else {}
    settings = {"upstream__auth__mode": "caller", "sets.ContactSet.secured": [], **stated}
    switches = Switches(auth="basic", users=USERS, batch="serve")
    async with world(database_url, switches=switches, rows=2, **settings) as place:
        await place.ask("/", Authorization=ADA)
        body = written(
            changeset(
                part("MERGE", account(place), {"Name": "Kept?"}), part("POST", "AccountSet", {"Name": "New?"})
            )
        )
        answer = await place.ask("/$batch", "POST", body=body, Content_Type=MIXED, Authorization=ADA)
        assert told(replies(answer)) == [[204, 201]]
        await place.idle()
        assert await place.proxy.store.open_intents() == []
        assert bool(await tables_with(database_url, "Kept?")) is is_stated
        assert bool(await tables_with(database_url, "New?")) is is_stated
