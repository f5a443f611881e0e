"""Origins in Atom: rewritten in the tags and elements of Atom itself, never in what they carry."""

import time

import pytest

from proxy.odata.atom import hold_origins, restore_origins, rewrite_origins

ROOT = "/XRMServices/2011/OrganizationData.svc"
HERE = f"https://crm.example.org{ROOT}"
LOWER = "https://crm.example.org/xrmservices/2011/organizationdata.svc"
DATA = "http://schemas.microsoft.com/ado/2007/08/dataservices"
DECLARATION = '<?xml version="1.0" encoding="utf-8" standalone="yes"?>'
RELATED = f'<link rel="{DATA}/related/n" type="application/atom+xml;type=entry" title="n" href="S(1)/n" />'


def entry(
    properties="", links=RELATED, head=f'<entry xml:base="{LOWER}/" xmlns="http://www.w3.org/2005/Atom">'
):
    return (
        f'{head}<id>{LOWER}/S(1)</id><title type="text">x</title>{links}'
        f'<content type="application/xml"><m:properties>{properties}</m:properties></content></entry>'
    )


def feed(*parts):
    return f'{DECLARATION}<feed xml:base="{LOWER}/" xmlns:d="{DATA}">' + "".join(parts) + "</feed>"


@pytest.mark.parametrize(
    ("text", "held"),
    [
        (DECLARATION + entry(), 2),
        ("\ufeff" + DECLARATION + "\r\n<!-- x -->" + entry(), 2),
        (
            feed(
                f"<id>{LOWER}/SSet</id>",
                entry(head="<entry>"),
                f'<link rel="next" href="{HERE}/S?a&amp;b" />',
            ),
            4,
        ),
        (feed(f'<link href="{HERE}/S?$skiptoken=1" rel="next"/>'), 2),
        (entry(links=f"<link title='href=\"x\"' href='{HERE}/S(1)' rel='edit' />"), 3),
        (entry(links=f'<link href="S(1)/n"><m:inline>{entry(head="<entry>")}</m:inline></link>'), 3),
        (f'<a:entry xmlns:a="x" xml:base="{HERE}"><a:id> {HERE}/S(1) </a:id><id>{HERE}</id></a:entry>', 2),
        (f'<service xml:base="{HERE}/"><workspace><collection href="ASet" /></workspace></service>', 1),
        (f'{DECLARATION}<links xmlns="{DATA}"><uri>{HERE}/S(1)</uri><uri>{HERE}//S(2)</uri></links>', 2),
        (f'{DECLARATION}<uri xmlns="{DATA}">{HERE}//S(1)</uri>', 1),
    ],
)
def test_links_of_the_protocol_are_held(text, held):
    result = hold_origins(text, ROOT)
    assert result.count("\x01") == held
    assert restore_origins(result, "https://crm.example.org") == text
    rewritten = rewrite_origins(text, ROOT, "http://127.0.0.1:8010")
    assert rewritten == result.replace("\x01", "http://127.0.0.1:8010")


HOSTILE = [
    f'he wrote xml:base="{HERE}/" there',
    f'link rel="next" href="{HERE}/S"',
    f"<![CDATA[<id>{HERE}/S(1)</id>]]>",
    f"<![CDATA[</m:properties><id>{HERE}/S(1)</id>]]>",
    f"<!-- </m:properties><id>{HERE}/S(1)</id> -->",
    f"<?x </m:properties><id>{HERE}/S(1)</id> ?>",
    f"<id>{HERE}/S(1)</id>",
    f"<d:id>{HERE}</d:id><d:uri>{HERE}</d:uri><d:properties>{HERE}</d:properties>",
]


@pytest.mark.parametrize("text", HOSTILE)
def test_properties_are_never_touched(text):
    plain = DECLARATION + entry("<d:Note>~</d:Note>")
    assert hold_origins(plain.replace("~", text), ROOT) == hold_origins(plain, ROOT).replace("~", text)


@pytest.mark.parametrize("text", HOSTILE[:3])
def test_titles_are_never_touched(text):
    plain = feed('<title type="text">~</title>', entry())
    assert hold_origins(plain.replace("~", text), ROOT) == hold_origins(plain, ROOT).replace("~", text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"<html><a href='{HERE}'>x</a></html>",
        f'<error xmlns="{DATA}/metadata"><code></code><message>{HERE}</message></error>',
        f'<WebSiteUrl xmlns="{DATA}">{HERE}</WebSiteUrl>',
        f'<entry xml:base="https://crm.example.org/other/"><id>{HERE}2/S(1)</id></entry>',
        f'<entry xml:base="{HERE}">\x01</entry>',
    ],
)
def test_nothing_else_is_touched(text):
    assert hold_origins(text, ROOT) == text
    assert rewrite_origins(text, ROOT, "http://p") == text


@pytest.mark.parametrize(
    "opening",
    [
        "<![CDATA[",
        "<!--",
        "<?x ",
        "<m:properties>",
        "<m:properties><![CDATA[",
        '<link a="b" ',
        '<link href="',
        "<link ",
        "<id>",
        "<id ",
        '<id a="b" ',
    ],
)
def test_hostile_text_takes_linear_time(opening):
    began = time.perf_counter()
    hold_origins("<feed>" + opening * 16_000, ROOT)
    # Half a minute and more when it was quadratic, hundredths of a second since.
    assert time.perf_counter() - began < 10
