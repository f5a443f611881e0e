"""Two callers with different rights, and every form in which the mirror route can be read.

What the caller without limits sees is what upstream says itself. What the limited one may see is worked out
here, from upstream's own answer: by type, the hidden properties made null.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from typing import Any
from xml.etree import ElementTree

import pytest
import pytest_asyncio
from calling import bearer, token_of
from world import Answer, World, world

from proxy.sandbox import Switches

pytestmark = pytest.mark.asyncio(loop_scope="module")

WHOLE, NARROW = "whole-token", "narrow-token"
HIDDEN_OF_ACCOUNTS = ["Telephone1", "Revenue", "ParentAccountId", "NumberOfEmployees", "CreatedBy"]
SHOWN_OF_CONTACTS = ["FullName", "LastName", "ParentCustomerId", "ModifiedOn"]
CALLERS: dict[str, Any] = {
    "whole": token_of(WHOLE, read=["*"]),
    "narrow": token_of(
        NARROW,
        read=["AccountSet", "ContactSet", "SystemUserSet"],
        properties={"AccountSet": {"deny": HIDDEN_OF_ACCOUNTS}, "ContactSet": {"allow": SHOWN_OF_CONTACTS}},
    ),
    "loader": token_of("loader-token", read=["*"], write=["*"]),
}
SETS = ("AccountSet", "ContactSet", "SystemUserSet", "TeamSet", "TeamMembershipSet", "BusinessUnitSet")
FORMATS = ["application/json", "application/atom+xml"]
KEYS = {"Account": "AccountId", "Contact": "ContactId"}
META = "{http://schemas.microsoft.com/ado/2007/08/dataservices/metadata}"
DATA = "{http://schemas.microsoft.com/ado/2007/08/dataservices}"
ATOM = "{http://www.w3.org/2005/Atom}"

SHOWN = [
    "/AccountSet({a})",
    "/AccountSet({a})?$select=Name",
    "/AccountSet({a})?$select=Name,Telephone1,Revenue,ParentAccountId",
    "/AccountSet({a})?$select=*",
    "/AccountSet({a})?$expand=account_primary_contact",
    "/AccountSet({a})?$expand=contact_customer_accounts,user_accounts",
    "/AccountSet({a})?$expand=account_primary_contact/contact_customer_accounts",
    "/AccountSet({a})?$expand=account_primary_contact&$select=Telephone1,account_primary_contact/JobTitle",
    "/AccountSet({a})/account_primary_contact",
    "/AccountSet({a})/account_primary_contact?$expand=contact_customer_accounts",
    "/AccountSet({a})/contact_customer_accounts",
    "/AccountSet({a})/contact_customer_accounts({c})",
    "/AccountSet({a})/Name",
    "/AccountSet({a})/Telephone1",
    "/AccountSet({a})/Revenue",
    "/AccountSet({a})/account_primary_contact/JobTitle",
    "/AccountSet({a})/$links/account_primary_contact",
    "/AccountSet({a})/$links/contact_customer_accounts",
    "/AccountSet",
    "/AccountSet?$top=3&$orderby=Name%20desc",
    "/AccountSet?$filter=startswith(Name,'A')&$inlinecount=allpages",
    "/AccountSet?$filter=account_primary_contact/LastName%20ne%20null&$select=Telephone1",
    "/AccountSet?$expand=contact_customer_accounts&$top=5",
    "/ContactSet?$orderby=contact_customer_accounts/Name,LastName",
    "/SystemUserSet?$top=2",
]
PLAIN = ["/AccountSet/$count", "/AccountSet({a})/Name/$value", "/AccountSet({a})/AccountId/$value"]
REFUSED = {
    "read TeamSet": [
        "/TeamSet",
        "/TeamSet({t})",
        "/TeamSet/$count",
        "/TeamSet({t})/Name",
        "/TeamSet({t})/Name/$value",
        "/TeamSet({t})/teammembership_association",
        "/TeamSet({t})/$links/teammembership_association",
        "/AccountSet({a})/team_accounts",
        "/AccountSet({a})/$links/team_accounts",
        "/AccountSet?$expand=team_accounts",
        "/AccountSet?$expand=contact_customer_accounts,team_accounts",
        "/AccountSet?$filter=team_accounts/Name%20eq%20'x'",
        "/AccountSet?$orderby=team_accounts/Name",
        "/SystemUserSet({u})/teammembership_association",
    ],
    "see AccountSet's 'Telephone1'": [
        "/AccountSet?$filter=Telephone1%20eq%20null",
        "/AccountSet?$filter=startswith(Telephone1,'0')%20or%20Name%20eq%20'x'",
        "/AccountSet?$filter=not%20(length(concat(Name,Telephone1))%20gt%202)",
        "/AccountSet?$orderby=Telephone1",
        "/AccountSet?$orderby=Name,tolower(Telephone1)%20desc",
        "/AccountSet/$count?$filter=Telephone1%20ne%20null",
        "/AccountSet?$top=0&$inlinecount=allpages&$filter=Telephone1%20ne%20null",
        "/ContactSet?$filter=contact_customer_accounts/Telephone1%20ne%20null",
        "/ContactSet?$orderby=contact_customer_accounts/Telephone1",
        "/AccountSet({a})/contact_customer_accounts/$count"
        "?$filter=contact_customer_accounts/Telephone1%20ne%20null",
    ],
    "see AccountSet's 'NumberOfEmployees'": [
        "/AccountSet?$filter=NumberOfEmployees%20add%201%20gt%20100",
        "/AccountSet?$filter=-NumberOfEmployees%20lt%205",
        "/AccountSet?$filter=NumberOfEmployees%20eq%201%20or%20NumberOfEmployees%20eq%202",
    ],
    "see AccountSet's 'Revenue'": ["/AccountSet?$orderby=Revenue/Value"],
    "see AccountSet's 'ParentAccountId'": [
        "/AccountSet?$filter=ParentAccountId/Id%20eq%20{a}",
        "/AccountSet({a})/Referencingaccount_parent_account",
        "/AccountSet({a})/Referencedaccount_parent_account",
        "/AccountSet({a})/Referencedaccount_parent_account/$count",
        "/AccountSet({a})/$links/Referencedaccount_parent_account",
        "/AccountSet?$expand=Referencedaccount_parent_account",
        "/AccountSet?$filter=Referencingaccount_parent_account/Name%20ne%20null",
        "/AccountSet?$filter=Referencingaccount_parent_account%20eq%20null",
    ],
    "see AccountSet's 'CreatedBy'": [
        "/SystemUserSet({u})/lk_accountbase_createdby",
        "/SystemUserSet?$expand=lk_accountbase_createdby",
        "/AccountSet({a})/lk_accountbase_createdby",
    ],
    "see ContactSet's 'JobTitle'": [
        "/ContactSet?$filter=JobTitle%20eq%20'x'",
        "/AccountSet({a})/contact_customer_accounts?$orderby=JobTitle",
        "/AccountSet?$filter=account_primary_contact/JobTitle%20ne%20null",
    ],
}
NEVER = [path for paths in REFUSED.values() for path in paths]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(databases: Any, template: str) -> AsyncIterator[World]:
    with databases.database(template) as url:
        v2 = Switches(language="v2", count="serve")
        async with world(url, switches=v2, rows=20, callers=CALLERS) as made:
            await made.fill(*SETS, **bearer("loader-token"))
            for name in SETS:  # titles are learned from Atom
                await made.ask(f"/{name}", Accept=FORMATS[1], **bearer("loader-token"))
            await made.idle()
            yield made


def named(place: World) -> dict[str, str]:
    """Literals for the placeholders: an account with a primary contact and contacts, and one of those."""
    organisation = place.sandbox.organisation
    accounts = {key: organisation.entity("AccountSet", key) for key in organisation.keys("AccountSet")}
    contacts = {key: organisation.entity("ContactSet", key) for key in organisation.keys("ContactSet")}
    account, contact = next(
        (key, own)
        for key, entity in accounts.items()
        if entity["PrimaryContactId"] and entity["Telephone1"] and entity["Revenue"]
        for own, each in contacts.items()
        if (each["ParentCustomerId"] or {}).get("Id") == key
    )
    keys = (account, contact, organisation.keys("TeamSet")[0], organisation.keys("SystemUserSet")[0])
    return {letter: f"guid'{key}'" for letter, key in zip("actu", keys, strict=True)}


async def ask(place: World, path: str, token: str, accept: str = FORMATS[0]) -> Answer:
    return await place.mirror(path, Accept=accept, **bearer(token))


def is_hidden(type_name: str, name: str) -> bool:
    if type_name == "Account":
        return name in HIDDEN_OF_ACCOUNTS
    return type_name == "Contact" and name not in (*SHOWN_OF_CONTACTS, KEYS[type_name])


def nulled(value: Any) -> Any:
    """Null; a complex value as an object of nulls (field manual, 5.2)."""
    if not isinstance(value, dict):
        return None
    return {name: each if name == "__metadata" else None for name, each in value.items()}


def masked(value: Any, of: str = "") -> Any:
    """Verbose JSON without what is hidden. `of`: the type of the entity that a lone property belongs to."""
    if isinstance(value, list):
        return [masked(each) for each in value]
    if not isinstance(value, dict):
        return value
    type_name = value.get("__metadata", {}).get("type", of).rpartition(".")[2]
    shown = {}
    for name, each in value.items():
        is_property = not (isinstance(each, dict) and ("__deferred" in each or "results" in each))
        if is_property and isinstance(each, dict) and "uri" in each.get("__metadata", {}):
            is_property = False  # an expanded entity
        hidden = name != "__metadata" and is_property and is_hidden(type_name, name)
        shown[name] = nulled(each) if hidden else masked(each)
    return shown


def canonical(text: str, hides: Callable[[str, str], bool] = lambda *_: False) -> str:
    """Atom in canonical form, without what is hidden."""
    root = ElementTree.fromstring(text)
    for entry in root.iter(f"{ATOM}entry"):
        category, properties = entry.find(f"{ATOM}category"), entry.find(f"{ATOM}content/{META}properties")
        assert category is not None and properties is not None
        type_name = category.attrib["term"].rpartition(".")[2]
        for element in properties:
            if hides(type_name, element.tag.removeprefix(DATA)):
                for emptied in (element, *element)[len(element) > 0 :]:
                    emptied.text = None
                    emptied.attrib.pop("{http://www.w3.org/XML/1998/namespace}space", None)
                    emptied.set(f"{META}null", "true")
    for updated in root.iter(f"{ATOM}updated"):
        updated.text = ""
    return ElementTree.canonicalize(ElementTree.tostring(root, encoding="unicode"))


@pytest.mark.parametrize("accept", FORMATS)
@pytest.mark.parametrize("path", SHOWN)
async def test_each_caller_sees_what_it_may(place: World, path: str, accept: str) -> None:
    path = path.format(**named(place))
    direct = await place.ask(path, direct=True, Accept=accept)
    assert direct.status == 200, direct.text
    expected = place.at_mirror(direct.text)
    whole, narrow = await ask(place, path, WHOLE, accept), await ask(place, path, NARROW, accept)
    assert (whole.status, narrow.status) == (200, 200), narrow.text
    lone = re.search(r"\)(/account_primary_contact)?/(\w+)$", path)
    of = "" if lone is None else "Contact" if lone[1] else "Account"
    if accept == FORMATS[0]:
        assert whole.json() == json.loads(expected)
        assert narrow.json() == {"d": masked(json.loads(expected)["d"], of)}
    elif expected.startswith("<?xml") and ("<entry" in expected or "<feed" in expected):
        assert canonical(whole.text) == canonical(expected)
        assert canonical(narrow.text) == canonical(expected, is_hidden)
    else:
        hidden = of and is_hidden(of, path.rpartition("/")[2])
        assert (narrow.text == expected) is not hidden


@pytest.mark.parametrize("path", PLAIN)
async def test_what_is_text_is_the_same_for_both(place: World, path: str) -> None:
    path = path.format(**named(place))
    direct = await place.ask(path, direct=True)
    for token in (WHOLE, NARROW):
        answer = await ask(place, path, token)
        assert (answer.status, answer.text) == (200, direct.text)


async def test_a_hidden_value_is_none(place: World) -> None:
    path = "/AccountSet({a})/Telephone1/$value".format(**named(place))
    assert (await ask(place, path, WHOLE)).status == 200
    assert (await ask(place, path, NARROW)).status == 404


@pytest.mark.parametrize(
    ("path", "right"), [(path, right) for right, paths in REFUSED.items() for path in paths]
)
async def test_what_asks_about_the_hidden_is_refused(place: World, path: str, right: str) -> None:
    path = path.format(**named(place))
    assert (await ask(place, path, WHOLE)).status in (200, 404)  # 404: of a lookup that is null
    for accept in FORMATS:
        answer = await ask(place, path, NARROW, accept)
        assert answer.status == 403, answer.text
        assert "Syncpoint.RightMissing" in answer.text
        assert answer.headers["Proxy-Status"] == "syncpoint; error=http_request_denied"
        assert "DataServiceVersion" in answer.headers
    message = (await ask(place, path, NARROW)).json()["error"]["message"]["value"]
    assert message == f"The caller 'narrow' has no right to {right}."


async def test_a_batch_asks_for_each_of_its_parts(place: World) -> None:
    paths = [each.format(**named(place)) for each in (SHOWN[0], NEVER[0], SHOWN[18], REFUSED_FILTER)]
    lines = []
    for path in paths:
        lines += ["--b", "Content-Type: application/http", "Content-Transfer-Encoding: binary", ""]
        lines += [f"GET {path.removeprefix('/')} HTTP/1.1", "Accept: application/json", "", ""]
    body = "\r\n".join((*lines, "--b--", "")).encode()
    answer = await place.mirror(
        "/$batch", "POST", body=body, Content_Type="multipart/mixed; boundary=b", **bearer(NARROW)
    )
    assert answer.status == 202
    parts = re.findall(r"HTTP/1\.1 (\d+) .*?\r\n\r\n(.*?)\r\n--batchresponse", answer.text, re.DOTALL)
    assert [int(status) for status, _ in parts] == [200, 403, 200, 403]
    for (status, text), path in zip(parts, paths, strict=True):
        assert text == (await ask(place, path, NARROW)).text, (status, path)


REFUSED_FILTER = "/AccountSet?$filter=Telephone1%20eq%20null"


@pytest.mark.parametrize("path", [*SHOWN, *NEVER])
async def test_the_past_shows_no_more_than_the_present(place: World, path: str) -> None:
    """As of now, which is a moment that the history knows."""
    path = path.format(**named(place))
    path += ("&" if "?" in path else "?") + f"asof={datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}"
    whole, narrow = await ask(place, path, WHOLE), await ask(place, path, NARROW)
    assert whole.status in (200, 404), whole.text
    if any(path.startswith(each.format(**named(place))) for each in NEVER):
        assert narrow.status == 403
    else:
        lone = re.search(r"\)(/account_primary_contact)?/(\w+)\?asof", path)
        of = "" if lone is None else "Contact" if lone[1] else "Account"
        assert (narrow.status, narrow.json()) == (200, {"d": masked(whole.json()["d"], of)})


async def test_the_service_document_lists_what_may_be_read(place: World) -> None:
    every = (await ask(place, "/", WHOLE)).json()["d"]["EntitySets"]
    assert {"TeamSet", "AccountSet"} < set(every)
    assert (await ask(place, "", NARROW)).json()["d"]["EntitySets"] == [
        name for name in every if name in ("AccountSet", "ContactSet", "SystemUserSet")
    ]
    atom = await ask(place, "/", NARROW, FORMATS[1])
    assert re.findall('collection href="([^"]*)"', atom.text) == ["AccountSet", "ContactSet", "SystemUserSet"]
    documents = [(await ask(place, "/$metadata", token)).body for token in (WHOLE, NARROW)]
    assert documents[0] == documents[1]


async def test_no_answer_depends_on_what_is_hidden(database_url: str) -> None:
    """Change nothing but hidden values, and no byte of what the narrow caller gets may change."""
    v2 = Switches(language="v2", count="serve")
    async with world(database_url, switches=v2, rows=12, callers=CALLERS) as place:
        await place.fill(*SETS, **bearer("loader-token"))
        paths = [path.format(**named(place)) for path in (*SHOWN, *PLAIN, *NEVER)]

        async def everything(token: str) -> dict[tuple[str, str], tuple[int, str]]:
            answers = {
                (path, accept): await ask(place, path, token, accept) for path in paths for accept in FORMATS
            }
            plain = re.compile("<updated>[^<]*</updated>")
            return {way: (each.status, plain.sub("", each.text)) for way, each in answers.items()}

        before, seen = await everything(NARROW), await everything(WHOLE)
        organisation = place.sandbox.organisation
        for number, key in enumerate(organisation.keys("AccountSet")):
            stamp = organisation.entity("AccountSet", key)["ModifiedOn"]
            values = {"Telephone1": f"0{number}", "NumberOfEmployees": number, "ParentAccountId": None}
            organisation.change("AccountSet", key, values, modified_on=stamp)
            fresh = bearer("loader-token") | {"Cache_Control": "no-cache"}
            assert (await place.ask(f"/AccountSet(guid'{key}')", **fresh)).status == 200
        await place.idle()
        assert await everything(WHOLE) != seen
        assert await everything(NARROW) == before
