from uuid import UUID

import pytest
from multidict import CIMultiDict

from proxy.odata.operation import (
    ChangeLinks,
    CreateEntity,
    DeleteEntity,
    Forwarded,
    MergeEntity,
    Opaque,
    ReadCollection,
    ReadEntity,
    UpdateEntity,
    UpdateProperty,
    parse_operation,
)
from proxy.odata.query_options import parse_query

ROOT = "/XRMServices/2011/OrganizationData.svc"
ID = UUID("8f2c6a50-0d61-e611-80c5-00155d010a01")
OTHER = UUID("a1d0be2e-1161-e611-80c5-00155d010a01")
ACCOUNT = f"/AccountSet(guid'{ID}')"
ACCOUNT_KEY = (("AccountId", ID),)
CONTACT_KEY = (("ContactId", OTHER),)


@pytest.fixture
def read(paths_model):
    def operation_of(method, target, root=ROOT, **headers):
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return parse_operation(method, target, CIMultiDict(named), root, paths_model)

    return operation_of


@pytest.fixture
def sets(paths_model):
    return paths_model.entity_sets


@pytest.mark.parametrize(
    "query",
    [
        None,
        "",
        "$select=Name,AccountId",
        "$select=Name&$expand=account_primary_contact&_=147",
        "$format=json",
        "&",
    ],
)
def test_reading_one_entity(read, sets, query):
    target = ROOT + ACCOUNT + ("" if query is None else f"?{query}")
    assert read("GET", target) == ReadEntity(sets["AccountSet"], ACCOUNT_KEY, parse_query(query))


@pytest.mark.parametrize(
    "query",
    [
        None,
        "$top=50&$skip=0&",
        "$filter=Name%20eq%20'x'&$orderby=ModifiedOn desc&$select=Name&$skiptoken=1&_=1",
        "$inlinecount=allpages&$format=json&$expand=x",
        "$top=abc&$filter=((",
    ],
)
@pytest.mark.parametrize("path", ["/AccountSet", "//AccountSet", "/AccountSet()"])
def test_reading_a_collection_judges_no_value(read, sets, path, query):
    target = ROOT + path + ("" if query is None else f"?{query}")
    assert read("GET", target) == ReadCollection(sets["AccountSet"], parse_query(query))


def test_the_root_is_matched_without_case_and_what_follows_with(read, sets):
    assert read("GET", f"/xrmservices/2011/organizationdata.SVC{ACCOUNT}") == ReadEntity(
        sets["AccountSet"], ACCOUNT_KEY, parse_query(None)
    )
    assert isinstance(read("GET", f"{ROOT}/accountset"), Forwarded)


@pytest.mark.parametrize("root", [ROOT + "/", "", "/"])
def test_any_root_path_serves(read, sets, root):
    target = root.rstrip("/") + "/AccountSet"
    assert read("GET", target, root=root) == ReadCollection(sets["AccountSet"], parse_query(None))


@pytest.mark.parametrize(
    ("method", "headers", "expected"),
    [
        ("MERGE", {}, MergeEntity),
        ("PATCH", {}, MergeEntity),
        ("POST", {"X_HTTP_Method": "PATCH"}, MergeEntity),
        ("POST", {"X_HTTP_Method": "MERGE"}, MergeEntity),
        ("POST", {"x_http_method": "merge"}, MergeEntity),
        ("PUT", {}, UpdateEntity),
        ("PUT", {"X_HTTP_Method": "MERGE"}, UpdateEntity),
        ("POST", {"X_HTTP_Method": "PUT"}, UpdateEntity),
        ("DELETE", {}, DeleteEntity),
        ("POST", {"X_HTTP_Method": "DELETE"}, DeleteEntity),
    ],
)
def test_writing_one_entity(read, sets, method, headers, expected):
    assert read(method, ROOT + ACCOUNT, **headers) == expected(sets["AccountSet"], ACCOUNT_KEY)
    through = f"{ROOT}{ACCOUNT}/contact_customer_accounts(guid'{OTHER}')?$junk=%zz"
    assert read(method, through, **headers) == expected(sets["ContactSet"], CONTACT_KEY)


def test_creating(read, sets):
    assert read("POST", f"{ROOT}/AccountSet") == CreateEntity(sets["AccountSet"])
    assert read("POST", f"{ROOT}/AccountSet()?$select=%zz") == CreateEntity(sets["AccountSet"])
    assert read("POST", f"{ROOT}{ACCOUNT}/contact_customer_accounts") == CreateEntity(sets["ContactSet"])


@pytest.mark.parametrize("method", ["PUT", "MERGE", "DELETE"])
@pytest.mark.parametrize(
    ("tail", "names"),
    [("/Name", ("Name",)), ("/Name/$value", ("Name",)), ("/PrimaryContactId/Id", ("PrimaryContactId", "Id"))],
)
def test_writing_a_property(read, sets, method, tail, names):
    assert read(method, ROOT + ACCOUNT + tail) == UpdateProperty(sets["AccountSet"], ACCOUNT_KEY, names)


def test_writing_a_property_of_a_related_entity(read, sets):
    target = f"{ROOT}{ACCOUNT}/contact_customer_accounts(guid'{OTHER}')/FullName"
    assert read("PUT", target) == UpdateProperty(sets["ContactSet"], CONTACT_KEY, ("FullName",))


@pytest.mark.parametrize(
    ("method", "headers"),
    [("POST", {}), ("PUT", {}), ("DELETE", {}), ("POST", {"X_HTTP_Method": "DELETE"})],
)
@pytest.mark.parametrize(
    ("tail", "navigation", "target", "target_key"),
    [
        ("contact_customer_accounts", "contact_customer_accounts", "ContactSet", None),
        (f"contact_customer_accounts(guid'{OTHER}')", "contact_customer_accounts", "ContactSet", CONTACT_KEY),
        ("account_primary_contact", "account_primary_contact", "ContactSet", None),
        ("unbound", "unbound", None, None),
    ],
)
def test_changing_links(read, sets, method, headers, tail, navigation, target, target_key):
    assert read(method, f"{ROOT}{ACCOUNT}/$links/{tail}", **headers) == ChangeLinks(
        sets["AccountSet"], ACCOUNT_KEY, navigation, target and sets[target], target_key
    )


@pytest.mark.parametrize(
    ("method", "tail", "of_set"),
    [
        ("GET", "", None),
        ("GET", "/", None),
        ("GET", "/$metadata", None),
        ("POST", "/$batch", None),
        ("GET", "/WhoAmI()?a=1", None),
        ("POST", "/WhoAmI", None),
        ("GET", "/WidgetSet", None),
        ("MERGE", "/WidgetSet(guid'1234')", None),
        ("GET", "/AccountSet(guid'1234')", None),
        ("GET", "/AccountSet(%E9)", None),
        ("GET", "/AccountSet/$count", "AccountSet"),
        ("GET", f"{ACCOUNT}/Name", "AccountSet"),
        ("GET", f"{ACCOUNT}/Name/$value", "AccountSet"),
        ("GET", f"{ACCOUNT}/account_primary_contact", "AccountSet"),
        ("GET", f"{ACCOUNT}/$links/contact_customer_accounts", "AccountSet"),
        ("GET", f"{ACCOUNT}/$value", "AccountSet"),
        ("GET", f"{ACCOUNT}?$filter=x", "AccountSet"),
        ("GET", f"{ACCOUNT}?$top=1", "AccountSet"),
        ("GET", f"{ACCOUNT}?$select=a&%24select=b", "AccountSet"),
        ("GET", "/AccountSet?$top=1&$top=1", "AccountSet"),
        ("GET", "/AccountSet?$search=x", "AccountSet"),
        ("GET", "/AccountSet?$Top=1", "AccountSet"),
        ("GET", "/AccountSet?%20$top=1", "AccountSet"),
        ("GET", "/AccountSet?$filter=%zz", "AccountSet"),
        ("GET", "/AccountSet?%E9=1", "AccountSet"),
        ("POST", ACCOUNT, "AccountSet"),
        ("PUT", "/AccountSet", "AccountSet"),
        ("DELETE", "/AccountSet", "AccountSet"),
        ("POST", "/AccountSet/$count", "AccountSet"),
        ("POST", f"{ACCOUNT}/Name", "AccountSet"),
        ("PUT", f"{ACCOUNT}/$value", "AccountSet"),
        ("PUT", f"{ACCOUNT}/account_primary_contact", "AccountSet"),
        ("POST", f"{ACCOUNT}/account_primary_contact", "AccountSet"),
        ("POST", f"{ACCOUNT}/unbound", "AccountSet"),
        ("DELETE", f"{ACCOUNT}/unbound(guid'{OTHER}')", "AccountSet"),
        ("POST", f"{ACCOUNT}/$links/contact_customer_accounts/$count", "AccountSet"),
        ("POST", f"{ACCOUNT}/account_primary_contact/$links/contact_parts", "AccountSet"),
    ],
)
def test_left_to_upstream(read, sets, method, tail, of_set):
    operation = read(method, ROOT + tail)
    assert isinstance(operation, Forwarded)
    assert operation.entity_set == (of_set and sets[of_set])
    assert operation.reason


def test_a_read_with_a_tunnelled_method_is_left_to_upstream(read, sets):
    operation = read("GET", f"{ROOT}/AccountSet", X_HTTP_Method="MERGE")
    assert isinstance(operation, Forwarded)
    assert operation.entity_set == sets["AccountSet"]


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("GET", "/"),
        ("GET", "*"),
        ("GET", ""),
        ("POST", "/XRMServices/2011/Organization.svc"),
        ("GET", f"{ROOT}x/AccountSet"),
        ("GET", f"{ROOT}(x)"),
        ("GET", f"http://crm.example.org{ROOT}/AccountSet"),
        ("HEAD", f"{ROOT}/AccountSet"),
        ("OPTIONS", f"{ROOT}/AccountSet"),
        ("PROPFIND", ROOT + ACCOUNT),
        ("get", f"{ROOT}/AccountSet"),
    ],
)
def test_none_of_odatas_requests(read, method, target):
    operation = read(method, target)
    assert isinstance(operation, Opaque)
    assert operation.reason
