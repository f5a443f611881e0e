"""Origins in verbose JSON: the protocol's links are rewritten, nothing else ever is."""

import json
import time

import pytest

from proxy.odata.verbose_json import (
    ESCAPED_ORIGIN,
    PLAIN_ORIGIN,
    hold_origins,
    restore_origins,
    restore_roots,
    rewrite_origins,
)

ROOT = "/XRMServices/2011/OrganizationData.svc"
HERE = f"https://crm.example.org{ROOT}"
LOWER = "https://crm.example.org/xrmservices/2011/organizationdata.svc"
ESCAPED = HERE.replace("/", "\\/")


@pytest.mark.parametrize(
    ("text", "held"),
    [
        (f'{{"__metadata":{{"uri":"{HERE}/S(1)"}}}}', f'{{"__metadata":{{"uri":"~{ROOT}/S(1)"}}}}'),
        (f'{{"__metadata" : {{ "uri" : "{LOWER}/S(1)"}}}}', None),
        (f'{{"__metadata":{{"type":"N.S","etag":"W/\\"1\\"","uri":"{HERE}/S(1)"}}}}', None),
        (f'{{"__metadata":{{"id":"{HERE}/S(1)","uri":"{HERE}/S(1)","type":"N.S"}}}}', None),
        (
            f'{{"__metadata":{{"uri":"{HERE}/S(1)","media_src":"{HERE}/S(1)/$value","edit_media":"{HERE}"}}}}',
            None,
        ),
        (f'{{"__metadata":{{"id":"{HERE}/S(1)","type":"N.S\\\\" , "edit_media" : "{ESCAPED}\\/S(1)', None),
        (f'{{"nav":{{"__deferred":{{"uri":"{HERE}/S(1)/nav"}}}}}}', None),
        (f'{{"d":{{"results":[],"__next":"{HERE}/S?$skiptoken=1"}}}}', None),
        (f'{{"d":{{"results":[{{"nav":{{"results":[],"__next":"{HERE}?x"}}}}]}}}}', None),
        (f'{{"d":{{"uri":"{HERE}//S(1)"}}}}', None),
        (f'{{"d":{{"results":[{{"uri":"{HERE}/S(1)"}},{{"uri":"{LOWER}/S(2)"}}]}}}}', None),
        (f'{{"d":{{"results":[{{"uri":"{HERE}/S(1)"}}],"__next":"{HERE}/S(0)/$links/n?x"}}}}', None),
        (f'{{"d":[{{"uri":"{HERE}/S(1)"}}]}}', None),
        (f'{{"uri":"{HERE}//S(1)"}}', None),
        (f'\ufeff{{"uri":"{HERE.replace("https", "HTTP").replace(".org", ".org:8080")}/S(1)"}}', None),
    ],
)
def test_links_of_the_protocol_are_held(text, held):
    result = hold_origins(text, ROOT)
    assert "://" not in result
    assert result == (held.replace("~", PLAIN_ORIGIN) if held else result)
    if "HTTP:" not in text:
        assert restore_origins(result, "https://crm.example.org") == text


def test_each_spelling_of_the_slashes_is_kept():
    text = f'{{"__metadata":{{"uri":"{ESCAPED}\\/S(1)"}},"n":{{"__deferred":{{"uri":"{HERE}/S(1)/n"}}}}}}'
    held = hold_origins(text, ROOT)
    assert held.count(ESCAPED_ORIGIN) == held.count(PLAIN_ORIGIN) == 1
    restored = restore_origins(held, "http://127.0.0.1:8010")
    assert '"uri":"http:\\/\\/127.0.0.1:8010\\/XRMServices' in restored
    assert f'"uri":"http://127.0.0.1:8010{ROOT}/S(1)/n"' in restored
    assert restore_origins(held, "https://crm.example.org") == text


@pytest.mark.parametrize(
    "text",
    [
        f'{{"d":{{"__metadata":{{"type":"N.S"}},"uri":"{HERE}/S(1)"}}}}',
        f'{{"d":{{"__metadata":{{"type":"N.S"}},"WebSiteUrl":"{HERE}/S(1)"}}}}',
        f'{{"__metadata":{{"uri":"https://crm.example.org/elsewhere"}},"id":"{HERE}"}}',
        f'{{"__metadata":{{"uri":"{HERE}2/S(1)"}}}}',
        f'{{"__metadata":{{"uri":"/x?{HERE}"}}}}',
        f'{{"d":{{"results":[{{"uri":"{HERE}/S(1)","Name":"x"}}]}}}}',
        f'{{"uri":"{HERE}/S(1)","Name":"x"}}',
        f'{{"d":{{"results":[{{"uri":"u"}}],"\\"uri":"{HERE}/S(1)"}}}}',
        f'{{"error":{{"message":{{"value":"{HERE}"}}}}}}',
        json.dumps({"Note": f"__metadata: {HERE}"}),
        json.dumps({"Note": f'","__metadata":{{"uri":"{HERE}/S(1)"}},"x":"'}),
        json.dumps({"Note": f'{{"__deferred":{{"uri":"{HERE}"}}}}'}),
        json.dumps({"Note": f'"__next":"{HERE}', "Tail": "\\"}),
        json.dumps({"Note": "__next", "x": f"{HERE}/S"}),
        json.dumps({'"__next': f"{HERE}/S"}, separators=(",", ":")),
        json.dumps({'"__metadata': {"uri": f"{HERE}/S"}}, separators=(",", ":")),
        json.dumps({"__metadata": {"type": f'","uri":"{HERE}/S'}}, separators=(",", ":")),
        json.dumps({"__metadata": {"id": "", "type": f'","uri":"{HERE}/S'}}, separators=(",", ":")),
        f'{{"__metadata":{{"id":"","properties":{{"a":{{"uri":"{HERE}"}}}}}}}}',
        json.dumps({"d": {"uri": f'x"uri":"{HERE}/S'}}, separators=(",", ":")),
        "<html>no JSON</html>",
        "",
    ],
)
def test_nothing_else_is_touched(text):
    assert hold_origins(text, ROOT) == text


@pytest.mark.parametrize(
    "opening", [f'"id":"{HERE}/S(1)",', '"x":"', '"__metadata":{"id":"', "\\", '\\"__metadata":{"id":']
)
def test_hostile_text_takes_linear_time(opening):
    began = time.perf_counter()
    hold_origins('{"__metadata":{"id":"",' + opening * 20_000, ROOT)
    # Minutes when it was quadratic, hundredths of a second since.
    assert time.perf_counter() - began < 10


def test_text_with_raw_placeholders_is_no_json_and_stays_as_it_is():
    text = f'{{"__metadata":{{"uri":"{HERE}/S(1)"}},"A":"\x01"}}'
    assert hold_origins(text, ROOT) == text
    assert rewrite_origins(text, ROOT, "http://proxy") == text


def test_a_root_path_that_ends_with_a_slash_or_is_empty_serves_too():
    text = f'{{"uri":"{HERE}/S(1)"}}'
    assert rewrite_origins(text, ROOT + "/", "http://p") == f'{{"uri":"http://p{ROOT}/S(1)"}}'
    assert rewrite_origins(text, "", "http://p") == f'{{"uri":"http://p{ROOT}/S(1)"}}'


def test_a_root_takes_the_place_of_the_whole_other_root():
    other = "http://mirror:8011/mirror"
    text = (
        f'{{"d":{{"results":[{{"__metadata":{{"uri":"{HERE}/S(1)"}},'
        f'"nav":{{"__deferred":{{"uri":"{LOWER}/S(1)/nav"}}}},"Note":"{HERE}/S(1)"}}],'
        f'"__next":"{ESCAPED}\\/S?x"}}}}'
    )
    restored = restore_roots(hold_origins(text, ROOT), ROOT, other)
    assert restored == (
        text.replace(f'"uri":"{HERE}', f'"uri":"{other}')
        .replace(LOWER, other)
        .replace(ESCAPED, other.replace("/", "\\/"))
    )
    assert json.loads(restored)["d"]["__next"] == f"{other}/S?x"
