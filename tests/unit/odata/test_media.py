import pytest

from proxy.odata.errors import ODataError
from proxy.odata.media import (
    error_format,
    is_atom,
    is_json,
    media_type,
    negotiated_format,
    response_format,
)


@pytest.mark.parametrize(
    "accept",
    [
        "application/json",
        "Application/JSON",
        "application/json; charset=utf-8",
        "application/json, text/javascript, */*",
        "application/json, text/javascript, */*; q=0.01",
        "application/json;q=0.9, application/atom+xml;q=0.5",
        "application/atom+xml;q=0, application/json",
        "text/html;q=0.9, application/json",
    ],
)
def test_json_where_it_is_asked_for(accept):
    assert response_format(accept) == negotiated_format(accept) == "json"


@pytest.mark.parametrize(
    "accept",
    [
        None,
        "",
        "*/*",
        "application/*",
        "application/atom+xml",
        "application/xml",
        "application/atom+xml,application/xml",
        "application/atom+xml;type=entry",
        "application/atom+xml, */*;q=0.1",
        "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "application/json;q=0.2, application/atom+xml",
        "application/json;q=0, */*",
        "image/gif, */*",
    ],
)
def test_atom_where_it_is_asked_for_or_nothing_is(accept):
    assert response_format(accept) == negotiated_format(accept) == "atom"


@pytest.mark.parametrize(
    "accept",
    [
        "text/plain",
        "text/*",
        "application/json;odata=verbose",
        "application/json, application/atom+xml",
        "application/json;q=0.5, */*",
        "application/json;q=0",
        "*/*, application/atom+xml;q=0",
        "application/json;q=high",
        "application/json;q=2",
        "application/json;q=nan",
        "*/*;q=0",
        ",",
    ],
)
def test_nobody_knows(accept):
    assert response_format(accept) is None


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        ("application/json;odata=verbose", "json"),
        ("application/json;odata=minimalmetadata", None),
        ("application/json, application/atom+xml", "json"),
        ("application/atom+xml, application/json", "json"),
        ("application/json;q=0.5, */*", "atom"),
        ("application/json;q=0", None),
        ("*/*, application/atom+xml;q=0", "json"),
        ("application/*, application/json;q=0.5", "atom"),
        ("application/json;q=high", "json"),
        ("*/*;q=0", None),
        ("text/plain", None),
        ("text/xml", "atom"),
        ("application/atomsvc+xml", "atom"),
        ("application/xml;q=0.2, application/json;q=0.1", "atom"),
        (",", None),
    ],
)
def test_our_own_choice_goes_by_quality(accept, chosen):
    if chosen is None:
        with pytest.raises(ODataError) as caught:
            negotiated_format(accept)
        assert caught.value.status == 406
    else:
        assert negotiated_format(accept) == chosen


@pytest.mark.parametrize(
    ("option", "chosen"),
    [
        ("json", "json"),
        (" JSON ", "json"),
        ("atom", "atom"),
        ("xml", "atom"),
        ("application/json;odata=verbose", "json"),
        ("application/atom+xml", "atom"),
        ("csv", None),
        ("", None),
    ],
)
def test_the_option_outweighs_the_field(option, chosen):
    for accept in (None, "application/json", "application/atom+xml;q=0.1", "text/plain"):
        if chosen is None:
            with pytest.raises(ODataError) as caught:
                negotiated_format(accept, option)
            assert caught.value.status == 415
        else:
            assert negotiated_format(accept, option) == chosen


def test_an_error_has_a_format_even_where_nothing_else_has():
    assert error_format("text/plain") == "atom"
    assert error_format("application/json;q=0") == "json"
    assert error_format("application/json", "csv") == "json"
    assert error_format("application/atom+xml", "json") == "json"


@pytest.mark.parametrize(
    ("content_type", "json", "atom"),
    [
        ("application/json;charset=utf-8", True, False),
        (" Application/Json ", True, False),
        ("application/atom+xml;type=entry", False, True),
        ("application/xml", False, False),
        ("text/html", False, False),
        ("application/jsonp", False, False),
        ("", False, False),
        (None, False, False),
    ],
)
def test_content_types(content_type, json, atom):
    assert (is_json(content_type), is_atom(content_type)) == (json, atom)


def test_media_type_drops_parameters_and_case():
    assert media_type("Application/JSON; charset=utf-8") == "application/json"
