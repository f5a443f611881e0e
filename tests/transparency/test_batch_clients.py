"""Batches as clients that we did not write send them: the same direct and through the proxy."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pyodata
import pytest
from cutover import cut_over, loaded_world
from pyodata.v2.model import Config
from world import Answer, World, world

from proxy.odata.batch import flat, read_responses
from proxy.sandbox import Switches

ROOT = "/XRMServices/2011/OrganizationData.svc"


@pytest.fixture
async def place(database_url: str) -> AsyncIterator[World]:
    async with world(database_url, switches=Switches(batch="serve")) as made:
        yield made


async def service(place: World, root: str) -> Any:
    client = await pyodata.Client.build_async_client(
        root, place.session, config=Config(default_error_policy=None)
    )
    client.config["http"]["update_method"] = "MERGE"
    return client


async def story(place: World, root: str, key: str) -> list[Any]:
    """Reads, a changeset of three kinds of writes, and a changeset that fails."""
    client = await service(place, root)
    contacts = client.entity_sets.ContactSet
    batch = client.create_batch()
    batch.add_request(contacts.get_entity(ContactId=key))
    changes = client.create_changeset()
    changes.add_request(contacts.create_entity().set(FirstName="Grace", LastName="Hopper"))
    changes.add_request(contacts.update_entity(ContactId=key).set(JobTitle="Rear admiral"))
    batch.add_request(changes)
    batch.add_request(contacts.get_entities().select("FullName").filter("StatusCode/Value eq 1").top(5))
    one, (made, none), rows = await batch.async_execute()
    seen: list[Any] = [one.FullName, one.JobTitle, made.FullName, none, [row.FullName for row in rows]]

    batch = client.create_batch()
    changes = client.create_changeset()
    changes.add_request(contacts.delete_entity(ContactId=str(made.ContactId)))
    batch.add_request(changes)
    batch.add_request(contacts.get_entity(ContactId=key))
    (gone, after) = await batch.async_execute()
    seen += [gone, after.JobTitle]

    batch = client.create_batch()
    changes = client.create_changeset()
    changes.add_request(contacts.update_entity(ContactId=key).set(JobTitle="Lost"))
    changes.add_request(contacts.delete_entity(ContactId=str(made.ContactId)))
    batch.add_request(changes)
    with pytest.raises(pyodata.exceptions.HttpError) as refused:
        await batch.async_execute()
    seen.append(refused.value.response.status_code)
    again = await contacts.get_entity(ContactId=key).async_execute()
    return [*seen, again.JobTitle]


async def test_pyodata_sees_the_same_direct_and_through_the_proxy(place: World) -> None:
    organisation = place.sandbox.organisation
    key = organisation.keys("ContactSet")[0]
    organisation.change("ContactSet", key, {"JobTitle": None})
    direct = await story(place, place.direct_root, str(key))
    organisation.change("ContactSet", key, {"JobTitle": None})
    place.clear()
    proxied = await story(place, place.proxy_root, str(key))
    await place.idle()

    assert proxied == direct
    assert direct[-1] == "Rear admiral"
    sent = [entry for entry in place.sandbox.journal if entry.target.endswith("/$batch")]
    assert [[one.method for one in entry.parts] for entry in sent] == [
        ["GET", "POST", "MERGE", "GET"],
        ["DELETE", "GET"],
        ["MERGE", "DELETE"],
    ]
    held = await place.ask(f"/ContactSet(guid'{key}')", Cache_Control="only-if-cached")
    assert held.json()["d"]["JobTitle"] == "Rear admiral"


async def test_pyodata_sees_the_same_without_upstream(database_url: str) -> None:
    async with loaded_world(database_url, Switches(batch="serve"), rows=9) as (place, switch_off):
        key = place.a_key("ContactSet")
        direct = await story(place, place.direct_root, key)
        await cut_over(place)
        await switch_off()
        # The mirror has not heard of what was written directly: both begin with the same title.
        proxied = await story(place, place.proxy_root, key)
    assert proxied == direct


# As the clients write them: the .NET one absolute URLs and Content-IDs beside the request's own fields,
# datajs and JayData rooted and relative ones behind a line break; LF alone from what is written by hand.
DOTNET = """--batch_5f7ac2a5-9d6e-4a8b-8f6e-6f0f3a3a9a01
Content-Type: multipart/mixed; boundary=changeset_a1b2c3d4-9d6e-4a8b-8f6e-6f0f3a3a9a02

--changeset_a1b2c3d4-9d6e-4a8b-8f6e-6f0f3a3a9a02
Content-Type: application/http
Content-Transfer-Encoding: binary

MERGE {root}/AccountSet(guid'{key}') HTTP/1.1
Content-ID: 4
Content-Type: application/atom+xml
Content-Length: {length}

{entry}
--changeset_a1b2c3d4-9d6e-4a8b-8f6e-6f0f3a3a9a02--
--batch_5f7ac2a5-9d6e-4a8b-8f6e-6f0f3a3a9a01
Content-Type: application/http
Content-Transfer-Encoding: binary

GET {root}/AccountSet(guid'{key}')?$select=Name HTTP/1.1


--batch_5f7ac2a5-9d6e-4a8b-8f6e-6f0f3a3a9a01--
"""
ENTRY = (
    '<?xml version="1.0" encoding="utf-8" standalone="yes"?><entry xml:base="{root}/" '
    'xmlns:d="http://schemas.microsoft.com/ado/2007/08/dataservices" '
    'xmlns:m="http://schemas.microsoft.com/ado/2007/08/dataservices/metadata" '
    "xmlns=\"http://www.w3.org/2005/Atom\"><id>{root}/AccountSet(guid'{key}')</id><title />"
    "<updated>2012-01-01T00:00:00Z</updated><author><name /></author>"
    '<content type="application/xml"><m:properties><d:Name>Ünïcode</d:Name></m:properties></content></entry>'
)
DATAJS = """
--batch_c5b3-6a1d-90f1
Content-Type: application/http
Content-Transfer-Encoding: binary

GET {path}/AccountSet(guid'{key}')?$select=Name HTTP/1.1
Accept: application/json
MaxDataServiceVersion: 2.0


--batch_c5b3-6a1d-90f1
Content-Type: multipart/mixed; boundary=changeset_1e9a-2f00-77b1

--changeset_1e9a-2f00-77b1
Content-Type: application/http
Content-Transfer-Encoding: binary

MERGE AccountSet(guid'{key}') HTTP/1.1
Content-Type: application/json
Accept: application/json

{{"Name":"Ünïcode"}}
--changeset_1e9a-2f00-77b1--

--batch_c5b3-6a1d-90f1--
"""


@pytest.mark.parametrize("ending", ["\r\n", "\n"])
@pytest.mark.parametrize(
    ("text", "content_type"),
    [
        (DOTNET, "multipart/mixed; boundary=batch_5f7ac2a5-9d6e-4a8b-8f6e-6f0f3a3a9a01"),
        (DATAJS, 'multipart/mixed;boundary="batch_c5b3-6a1d-90f1"'),
    ],
    ids=["dotnet", "datajs"],
)
async def test_the_same_answer_direct_and_through_the_proxy(
    place: World, text: str, content_type: str, ending: str
) -> None:
    key = place.a_key("AccountSet")
    place.sandbox.clock.freeze()  # Atom says when it was written
    await place.ask(f"/AccountSet(guid'{key}')")

    async def sent(root: str) -> Answer:
        entry = ENTRY.format(root=root, key=key)
        length = len(entry.encode())
        body = text.replace("\n", ending).format(root=root, path=ROOT, key=key, entry=entry, length=length)
        headers = {
            "Content-Type": content_type,
            "Accept": "multipart/mixed",
            "DataServiceVersion": "1.0;NetFx",
        }
        return await place.send(f"{root}/$batch", "POST", headers, body.encode())

    await sent(place.direct_root)
    direct = await sent(place.direct_root)
    place.clear()
    answer = await sent(place.proxy_root)
    assert (answer.status, direct.status) == (202, 202)
    boundary = direct.headers["Content-Type"].partition("boundary=")[2]
    ours = answer.headers["Content-Type"].partition("boundary=")[2]
    assert place.rooted(direct.text).replace(boundary, ours) == answer.text
    found = list(flat(read_responses(answer.body, answer.headers["Content-Type"])))
    assert sorted(one.status for one in found) == [200, 204]
    (entry,) = [entry for entry in place.sandbox.journal if entry.target.endswith("/$batch")]
    assert place.proxy.url.encode() not in entry.body
    held = await place.ask(f"/AccountSet(guid'{key}')", Cache_Control="only-if-cached")
    assert held.json()["d"]["Name"] == "Ünïcode"
