import pytest

from proxy.odata.media import is_atom, is_json, media_type, response_format


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
    assert response_format(accept) == "json"


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
    assert response_format(accept) == "atom"


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
