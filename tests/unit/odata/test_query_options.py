import pytest

from proxy.odata.errors import ODataError
from proxy.odata.query_options import QueryOption, parse_query, restore_select, with_select

STAMP = ("AccountId", "ModifiedOn")
ROOT = "https://crm.example.org/XRMServices/2011/OrganizationData.svc/AccountSet"


def test_options_are_decoded_and_their_raw_text_kept():
    raw = "%24filter=Name%20eq+'a%2Bb'&_=1471&$top=50&$skip=0&"
    options = parse_query(raw)
    assert options.raw == raw
    assert options.items == (
        QueryOption("$filter", "Name eq 'a+b'", "%24filter=Name%20eq+'a%2Bb'"),
        QueryOption("_", "1471", "_=1471"),
        QueryOption("$top", "50", "$top=50"),
        QueryOption("$skip", "0", "$skip=0"),
    )
    assert options.filter == "Name eq 'a+b'"
    assert (options.top, options.skip) == (50, 0)
    assert options.names == {"$filter", "$top", "$skip"}
    assert options.get("$orderby") is None


@pytest.mark.parametrize("raw", [None, "", "&", "&&"])
def test_nothing_asked_is_no_option(raw):
    options = parse_query(raw)
    assert (options.raw, options.items) == (raw, ())
    assert options.select is options.expand is options.top is options.skiptoken is None


def test_values_may_hold_equal_signs_and_be_absent():
    options = parse_query("a=b=c&d&$format=json&$inlinecount=allpages&$orderby=x desc&$skiptoken=1,'a'")
    assert [(item.name, item.value) for item in options.items[:2]] == [("a", "b=c"), ("d", "")]
    assert (options.format, options.inlinecount, options.orderby, options.skiptoken) == (
        "json",
        "allpages",
        "x desc",
        "1,'a'",
    )


@pytest.mark.parametrize(
    ("raw", "names"),
    [
        ("$select=Name,AccountId", ("Name", "AccountId")),
        ("$select=Name%2C+AccountId", ("Name", "AccountId")),
        ("$select=Name,", ("Name", "")),
        ("$select=", ("",)),
        ("$select=*", ("*",)),
    ],
)
def test_names_keep_their_order_and_their_gaps(raw, names):
    assert parse_query(raw).select == names
    assert parse_query(raw.replace("select", "expand")).expand == names


def test_an_option_given_twice_is_reported_and_the_first_holds():
    options = parse_query("$top=1&%24top=2&a=1&a=2&$skip=3")
    assert options.duplicates == {"$top"}
    assert options.top == 1
    assert not parse_query("$top=1&$skip=3&a=1&a=2").duplicates


def test_a_blank_before_the_dollar_does_not_hide_a_system_option():
    assert parse_query("%20$filter=x").names == {" $filter"}


@pytest.mark.parametrize("value", ["abc", "-1", "1.5", "", "2147483648", "%D9%A1", "9" * 5000])
def test_what_counts_no_records_is_refused(value):
    with pytest.raises(ODataError) as caught:
        _ = parse_query(f"$top={value}").top
    assert caught.value.status == 400
    with pytest.raises(ODataError, match=r"\$skip"):
        _ = parse_query(f"$skip={value}").skip


@pytest.mark.parametrize("raw", ["$filter=%zz", "$filter=%", "%E9=1", "a=%C3%28"])
def test_bad_encodings_are_refused(raw):
    with pytest.raises(ODataError):
        parse_query(raw)


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (None, "$select=AccountId,ModifiedOn"),
        ("", "$select=AccountId,ModifiedOn"),
        ("$top=5", "$top=5&$select=AccountId,ModifiedOn"),
        ("$top=50&$skip=0&", "$top=50&$skip=0&$select=AccountId,ModifiedOn"),
        ("&", "&$select=AccountId,ModifiedOn"),
        ("$select=Name", "$select=AccountId,ModifiedOn"),
        (
            "$select=Name&$filter=Name%20eq+%27a%2Cb%27&",
            "$select=AccountId,ModifiedOn&$filter=Name%20eq+%27a%2Cb%27&",
        ),
        ("&a=%zz&%24select=Name&b", "&a=%zz&%24select=AccountId,ModifiedOn&b"),
        ("$select", "$select=AccountId,ModifiedOn"),
        ("$select=a&$select=b", "$select=AccountId,ModifiedOn&$select=b"),
        ("$Select=a&x$select=b", "$Select=a&x$select=b&$select=AccountId,ModifiedOn"),
    ],
)
def test_only_the_value_of_the_first_select_is_replaced(raw, expected):
    assert with_select(raw, STAMP) == expected


@pytest.mark.parametrize(
    ("link_query", "client_query", "expected"),
    [
        # The client had a $select: its own raw text comes back, wherever upstream put ours.
        (
            "$select=AccountId,ModifiedOn&$skiptoken=1",
            "%24select=Name%2CId&$top=5",
            "%24select=Name%2CId&$skiptoken=1",
        ),
        (
            "$filter=x&$select=AccountId,ModifiedOn&$skiptoken=1",
            "$select=Name&$filter=x",
            "$filter=x&$select=Name&$skiptoken=1",
        ),
        ("$skiptoken=1&$select=AccountId,ModifiedOn", "$select=Name", "$skiptoken=1&$select=Name"),
        ("$select=AccountId,ModifiedOn&$select=b", "$select=a&$select=b", "$select=a&$select=b"),
        # It had none: ours goes, with one ampersand.
        ("$select=AccountId,ModifiedOn&$skiptoken=1", None, "$skiptoken=1"),
        (
            "$filter=a eq 1&$select=AccountId,ModifiedOn&$skiptoken=1",
            "$filter=a+eq+1",
            "$filter=a eq 1&$skiptoken=1",
        ),
        ("$skiptoken=1&$select=AccountId,ModifiedOn", "", "$skiptoken=1"),
        # Upstream encoded it anew.
        ("%24select=AccountId%2cModifiedOn&$skiptoken=1", None, "$skiptoken=1"),
        ("$select=AccountId%2C%20ModifiedOn&$skiptoken=1", "$select=Name", "$select=Name&$skiptoken=1"),
        ("$select=AccountId,+ModifiedOn&$skiptoken=1", None, "$skiptoken=1"),
        # Not ours.
        ("$select=Name&$skiptoken=1", "$select=Name", "$select=Name&$skiptoken=1"),
        ("$skiptoken=1", "$select=Name", "$skiptoken=1"),
        ("$select=%zz&$skiptoken=1", None, "$select=%zz&$skiptoken=1"),
    ],
)
def test_the_clients_select_comes_back_into_the_next_link(link_query, client_query, expected):
    assert restore_select(f"{ROOT}?{link_query}", client_query, STAMP) == f"{ROOT}?{expected}"


def test_a_link_left_without_query_has_no_question_mark():
    assert restore_select(f"{ROOT}?$select=AccountId,ModifiedOn", None, STAMP) == ROOT
    assert restore_select(ROOT, None, STAMP) == ROOT
