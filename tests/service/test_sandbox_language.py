"""The sandbox with the whole language switched on: what it shows beyond what Dynamics 2011 would."""

from __future__ import annotations

import uuid
from typing import Any

import pytest
from sandboxing import Served, served

ACCOUNT, ADA = uuid.UUID(int=9), uuid.UUID(int=1)


def fill(made: Served) -> None:
    """An account and its one contact."""
    insert = made.sandbox.organisation.insert
    insert("AccountSet", {"AccountId": ACCOUNT, "Name": "Parent"})
    account = {"Id": ACCOUNT, "LogicalName": "account"}
    insert("ContactSet", {"ContactId": ADA, "LastName": "Byron", "ParentCustomerId": account})


def names(entity: dict[str, Any]) -> set[str]:
    return entity.keys() - {"__metadata"}


async def test_expansions_nest_and_select_reaches_into_them() -> None:
    async with served(0, language="v2") as made:
        fill(made)
        reply = await made.get(
            "/ContactSet?$expand=contact_customer_accounts/contact_customer_accounts"
            "&$select=LastName,contact_customer_accounts/Name,"
            "contact_customer_accounts/contact_customer_accounts/FullName"
        )
        (contact,) = reply.d["results"]
        account = contact["contact_customer_accounts"]
        (inner,) = account["contact_customer_accounts"]["results"]
        assert names(contact) == {"LastName", "contact_customer_accounts"}
        assert names(account) == {"Name", "contact_customer_accounts"}
        assert names(inner) == {"FullName"}
        assert inner["FullName"] == "Byron"


async def test_nested_expansions_are_whole_without_a_select() -> None:
    async with served(0, language="v2") as made:
        fill(made)
        reply = await made.get("/ContactSet?$expand=contact_customer_accounts/contact_customer_accounts")
        account = reply.d["results"][0]["contact_customer_accounts"]
        assert account["Name"] == "Parent"
        assert account["contact_customer_accounts"]["results"][0]["LastName"] == "Byron"


async def test_a_page_within_an_expansion_links_to_the_rest_with_the_same_options() -> None:
    async with served(0, language="v2", page_size=1) as made:
        fill(made)
        account = {"Id": ACCOUNT, "LogicalName": "account"}
        made.sandbox.organisation.insert("ContactSet", {"LastName": "Zuse", "ParentCustomerId": account})
        nav = "contact_customer_accounts"
        reply = await made.get(
            f"/AccountSet?$expand={nav}/{nav}&$select=Name,{nav}/LastName,{nav}/{nav}/Name"
        )
        inner = reply.d["results"][0][nav]
        rest = await made.get(inner["__next"])
        both = [*inner["results"], *rest.d["results"]]
        assert {contact["LastName"] for contact in both} == {"Byron", "Zuse"}
        assert all(names(contact) == {"LastName", nav} for contact in both)
        assert all(names(contact[nav]) == {"Name"} for contact in both)


@pytest.mark.parametrize(
    ("query", "token"),
    [("$expand=Nav", "Nav"), ("$select=Nome", "Nome"), ("$expand=contact_customer_accounts/Nav", "Nav")],
)
async def test_unknown_names_are_refused(query: str, token: str) -> None:
    async with served(0, language="v2") as made:
        status, _, message = (await made.get(f"/ContactSet?{query}")).error
        assert status == 400
        assert token in message


async def test_orders_may_be_computed_through_all_pages() -> None:
    async with served(0, language="v2", page_size=1) as made:
        insert = made.sandbox.organisation.insert
        for name in ("ccc", "a", "bb"):
            insert("AccountSet", {"Name": name})
        reply = await made.get("/AccountSet?$orderby=length(Name)%20desc&$select=Name")
        seen = [reply.d["results"][0]["Name"]]
        while "__next" in reply.d:
            reply = await made.get(reply.d["__next"])
            seen.append(reply.d["results"][0]["Name"])
        assert seen == ["ccc", "bb", "a"]
