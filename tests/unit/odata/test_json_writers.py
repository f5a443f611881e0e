"""Verbose JSON as the server writes it: order, nulls, expansion, escapes."""

from uuid import UUID

import pytest

from proxy.odata.errors import ODataError
from proxy.odata.verbose_json import (
    entity_from_document,
    write_collection,
    write_d,
    write_entity,
    write_error,
    write_links,
    write_property,
    write_value,
)

ID = UUID("8f2c6a50-0d61-e611-80c5-00155d010a01")
URI = f"https://h/s.svc/AccountSet(guid'{ID}')"
HEAD = f'{{"__metadata":{{"uri":"{URI}","type":"Microsoft.Crm.Sdk.Data.Services.Account"}}'
TYPE = '{"__metadata":{"type":"Microsoft.Crm.Sdk.Data.Services.EntityReference"},'
NOBODY = f'{TYPE}"Id":null,"Name":null}}'


def deferred(name):
    return f'"{name}":{{"__deferred":{{"uri":"{URI}/{name}"}}}}'


@pytest.fixture
def write(paths_model):
    entity_set = paths_model.entity_sets["AccountSet"]

    def written(values, **options):
        return write_entity({"AccountId": ID} | values, entity_set, paths_model, "https://h/s.svc", **options)

    return written


def test_everything_in_model_order_with_links_last(write):
    links = ",".join(map(deferred, ("contact_customer_accounts", "account_primary_contact", "unbound")))
    text = write({"Name": 'é"\n'})
    assert text == f'{HEAD},"AccountId":"{ID}","Name":"\\u00e9\\"\\n","PrimaryContactId":{NOBODY},{links}}}'


@pytest.mark.parametrize(
    ("options", "tail"),
    [
        ({"select": []}, ""),
        ({"select": ["Name", "AccountId", "Name"]}, f',"Name":null,"AccountId":"{ID}"'),
        ({"select": ["unbound"]}, "," + deferred("unbound")),
        ({"select": ["unbound"], "expanded": {"unbound": '{"results":[]}'}}, ',"unbound":{"results":[]}'),
        (
            {"select": ["account_primary_contact"], "expanded": {"account_primary_contact": "null"}},
            ',"account_primary_contact":null',
        ),
    ],
)
def test_what_is_selected_in_its_order(write, options, tail):
    assert write({}, **options) == f"{HEAD}{tail}}}"


def test_an_entity_without_its_key_is_not_written(write):
    with pytest.raises(ODataError):
        write({"AccountId": None})


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, NOBODY),
        ({"Id": ID}, f'{TYPE}"Id":"{ID}","Name":null}}'),
        ({"Id": ID, "Name": "x"}, f'{TYPE}"Id":"{ID}","Name":"x"}}'),
    ],
)
def test_a_complex_value_has_all_its_members(paths_model, value, text):
    declared = paths_model.entity_sets["AccountSet"].entity_type.properties["PrimaryContactId"]
    assert write_value(value, declared, paths_model) == text


def test_the_documents_around_values(paths_model):
    name = paths_model.entity_sets["AccountSet"].entity_type.properties["Name"]
    assert write_d(write_collection([])) == '{"d":{"results":[]}}'
    assert write_collection(["{}", "{}"], 'u"') == '{"results":[{},{}],"__next":"u\\""}'
    assert write_collection(["{}"], "u", 7) == '{"results":[{}],"__count":"7","__next":"u"}'
    assert write_property("Name", "x", name, paths_model) == '{"d":{"Name":"x"}}'
    assert write_error("7", "é") == ('{"error":{"code":"7","message":{"lang":"en-US","value":"\\u00e9"}}}')


@pytest.mark.parametrize(
    ("select", "inlined", "shown"),
    [
        (None, {}, f',"Name":"caf\\u00e9",{deferred("unbound")}'),
        (("Name",), {}, ',"Name":"caf\\u00e9"'),
        (None, {"unbound": "null"}, ',"Name":"caf\\u00e9","unbound":null'),
        (("unbound", "Name"), {"unbound": "null"}, ',"unbound":null,"Name":"caf\\u00e9"'),
        (
            ("unbound",),
            {"unbound": f'{{"results":[{{"deep":{deferred("x").partition(":")[2]}}}]}}'},
            f',"unbound":{{"results":[{{"deep":{deferred("x").partition(":")[2]}}}]}}',
        ),
        # Declared after the document was written.
        (("AccountId",), {}, ',"AccountId":null'),
        (("PrimaryContactId", "Name"), {}, f',"PrimaryContactId":{NOBODY},"Name":"caf\\u00e9"'),
        (("account_primary_contact",), {}, f",{deferred('account_primary_contact')}"),
        (None, {"account_primary_contact": "null"}, None),
    ],
)
def test_an_entity_is_shown_in_its_documents_bytes(paths_model, select, inlined, shown):
    document = f'{HEAD},"Name":"caf\\u00e9",{deferred("unbound")}}}'
    account = paths_model.entity_sets["AccountSet"].entity_type
    text = entity_from_document(document, account, paths_model, select=select, inlined=inlined)
    added = f'{document[len(HEAD) : -1]},"account_primary_contact":null'
    assert text == f"{HEAD}{added if shown is None else shown}}}"


@pytest.mark.parametrize(
    ("uris", "options", "text"),
    [
        (["u"], {"many": False}, '{"d":{"uri":"u"}}'),
        ([], {"many": True}, '{"d":{"results":[]}}'),
        (["u", "v"], {"many": True}, '{"d":{"results":[{"uri":"u"},{"uri":"v"}]}}'),
        (
            ["u"],
            {"many": True, "next_link": "n", "count": 7},
            '{"d":{"results":[{"uri":"u"}],"__count":"7","__next":"n"}}',
        ),
    ],
)
def test_links(uris, options, text):
    assert write_links(uris, **options) == text
