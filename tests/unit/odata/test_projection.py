"""`$select` and `$expand` as one tree."""

from __future__ import annotations

import pytest

from proxy.odata.errors import ODataError
from proxy.odata.projection import EXPAND_LIMIT, Projection, parse_projection

ACCOUNT = "Microsoft.Crm.Sdk.Data.Services.Account"
WHOLE = Projection()
CONTACTS = "contact_customer_accounts"
PRIMARY = "account_primary_contact"
PARTS = "contact_parts"


def parse(model, select, expand):
    return parse_projection(select, expand, model.entity_types[ACCOUNT], model)


@pytest.mark.parametrize(
    ("select", "expand", "expected"),
    [
        (None, None, WHOLE),
        ("", "", WHOLE),
        (" , ", ",", WHOLE),
        ("Name,AccountId", None, Projection(("Name", "AccountId"))),
        (" Name , AccountId ,Name,", None, Projection(("Name", "AccountId"))),
        ("*", None, Projection(("AccountId", "Name", "PrimaryContactId"))),
        (f"Name,*,{PRIMARY}", None, Projection(("Name", "AccountId", "PrimaryContactId", PRIMARY))),
        (None, PRIMARY, Projection(None, {PRIMARY: WHOLE})),
        (None, f"{PRIMARY},{CONTACTS}", Projection(None, {PRIMARY: WHOLE, CONTACTS: WHOLE})),
        (
            None,
            f"{CONTACTS}/{PARTS},{CONTACTS}",
            Projection(None, {CONTACTS: Projection(None, {PARTS: WHOLE})}),
        ),
        ("Name", PRIMARY, Projection(("Name",))),
        ("*", PRIMARY, Projection(("AccountId", "Name", "PrimaryContactId"))),
        (PRIMARY, PRIMARY, Projection((PRIMARY,), {PRIMARY: WHOLE})),
        (
            f"{PRIMARY}/FullName,Name",
            PRIMARY,
            Projection((PRIMARY, "Name"), {PRIMARY: Projection(("FullName",))}),
        ),
        (f"{PRIMARY}/FullName,{PRIMARY}", PRIMARY, Projection((PRIMARY,), {PRIMARY: WHOLE})),
        (
            f"{CONTACTS}/*",
            f"{CONTACTS}/{PARTS}",
            Projection((CONTACTS,), {CONTACTS: Projection(("ContactId", "FullName"))}),
        ),
        (
            f"Name,{CONTACTS}/{PARTS}/Weight,{CONTACTS}/FullName",
            f"{CONTACTS}/{PARTS}",
            Projection(
                ("Name", CONTACTS),
                {CONTACTS: Projection((PARTS, "FullName"), {PARTS: Projection(("Weight",))})},
            ),
        ),
        (
            f"{CONTACTS}/{PARTS}/Weight,{CONTACTS}",
            f"{CONTACTS}/{PARTS}",
            Projection((CONTACTS,), {CONTACTS: Projection(None, {PARTS: WHOLE})}),
        ),
        # Selected and not expanded: shown deferred, by its name.
        (f"{PRIMARY}/FullName", None, Projection((PRIMARY,))),
    ],
)
def test_both_options_make_one_tree(paths_model, select, expand, expected):
    assert parse(paths_model, select, expand) == expected


@pytest.mark.parametrize(
    ("select", "expand", "token", "position"),
    [
        ("Name, Nmae", None, "Nmae", 6),
        ("name", None, "name", 0),
        ("Name,PrimaryContactId/Id", None, "Id", 22),
        ("Name/x", None, "x", 5),
        ("*/Name", None, "Name", 2),
        (f"{PRIMARY}/Name", PRIMARY, "Name", 24),
        (f"{PRIMARY}/ Name", None, "Name", 25),
        ("Name,/", None, "", 5),
        (f"{PRIMARY}//FullName", PRIMARY, "", 24),
        (None, "Name", "Name", 0),
        (None, f"{CONTACTS},{CONTACTS}/nothing", "nothing", 52),
        (None, "*", "*", 0),
        (None, f"{PRIMARY}/", "", 24),
    ],
)
def test_what_leads_nowhere_is_named_with_its_place(paths_model, select, expand, token, position):
    with pytest.raises(ODataError) as caught:
        parse(paths_model, select, expand)
    assert (caught.value.status, caught.value.token, caught.value.position) == (400, token, position)
    assert f"position {position}" in caught.value.message
    assert token in caught.value.message


def test_the_limit_counts_expansions_once(paths_model):
    contact = paths_model.entity_types["Microsoft.Crm.Sdk.Data.Services.Contact"]
    again = ",".join([f"{CONTACTS}/{PARTS}"] * (EXPAND_LIMIT + 1))
    assert parse(paths_model, None, again).expanded[CONTACTS].expanded == {PARTS: WHOLE}
    names = [f"n{number}" for number in range(EXPAND_LIMIT + 1)]
    navigation = contact.navigation_properties[PARTS]
    wide = type(contact)("Wide", contact.namespace, (), {}, dict.fromkeys(names, navigation))
    assert len(parse_projection(None, ",".join(names[1:]), wide, paths_model).expanded) == EXPAND_LIMIT
    with pytest.raises(ODataError, match=f"limit of {EXPAND_LIMIT}"):
        parse_projection(None, ",".join(names), wide, paths_model)


@pytest.mark.parametrize(
    ("select", "expand", "query"),
    [
        (None, None, ()),
        ("Name,AccountId", None, ("$select=Name,AccountId",)),
        (None, f"{CONTACTS}/{PARTS},{PRIMARY}", (f"$expand={CONTACTS}/{PARTS},{PRIMARY}",)),
        (
            f"Name,{CONTACTS}/FullName,{CONTACTS}/{PARTS}/Weight,{PRIMARY}",
            f"{CONTACTS}/{PARTS},{PRIMARY}",
            (
                f"$select=Name,{CONTACTS}/FullName,{CONTACTS}/{PARTS}/Weight,{PRIMARY}",
                f"$expand={CONTACTS}/{PARTS},{PRIMARY}",
            ),
        ),
    ],
)
def test_the_query_asks_for_the_same_again(paths_model, select, expand, query):
    projection = parse(paths_model, select, expand)
    assert projection.query() == query
    options = dict(option[1:].split("=") for option in projection.query())
    assert parse(paths_model, options.get("select"), options.get("expand")) == projection
