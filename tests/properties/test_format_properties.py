"""What holds of every document in both formats, whatever is in it."""

import contextlib
import json
import string
from xml.etree import ElementTree

from hypothesis import example, given
from hypothesis import strategies as st

from proxy.odata import atom, verbose_json
from proxy.odata.edm import ComplexType, EntitySet, EntityType, Model, NavigationProperty, Property
from proxy.odata.errors import ODataError

ROOT_PATH = "/XRMServices/2011/OrganizationData.svc"
ORIGIN = "https://crm.example.org"
ROOT = ORIGIN + ROOT_PATH
DATA = "http://schemas.microsoft.com/ado/2007/08/dataservices"

# Strings made of what the patterns look for, so that the dangerous ones are likely.
FRAGMENTS = [
    *('"', "\\", "/", "{", "}", "[", "]", ":", ",", " ", "\n", "<", ">", "&", "'", "]]>", "<![CDATA[", "-->"),
    *("<!--", "<?", "?>", "__metadata", "__deferred", "__next", "uri", "id", "d", "results", "media_src"),
    *('"__metadata":{"uri":"', '"__next":"', ROOT, ROOT.lower(), ROOT.replace("/", "\\/"), ORIGIN, ROOT_PATH),
    *(
        ' xml:base="',
        '<link rel="next" href="',
        "<id>",
        "<uri>",
        "</m:properties>",
        "<m:properties>",
        "é",
        "\U0001f600",
    ),
]
hostile = st.lists(st.sampled_from(FRAGMENTS), max_size=6).map("".join)
legal_text = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff"), max_size=20
)
names = st.one_of(
    st.sampled_from(["__metadata", "__deferred", "__next", "uri", "id", "results", "d", "Name", "A"]),
    hostile,
    st.text(string.ascii_letters, min_size=1, max_size=5),
)
link = st.sampled_from(
    [f"{ROOT}/S(1)", f"{ROOT.lower()}/S(1)", f"{ROOT}2/S", f"{ORIGIN}/other", f"{ROOT}?x", ""]
)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False))
values = st.recursive(
    st.one_of(scalars, hostile, link, st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(names, inner, max_size=4)),
    max_leaves=12,
)
metadata = st.fixed_dictionaries(
    {"uri": st.one_of(link, hostile)}, optional={"type": hostile, "id": link, "media_src": link, "x": hostile}
)
entities = st.builds(
    lambda about, members: {"__metadata": about, **members},
    metadata,
    st.dictionaries(names.filter(lambda name: name != "__metadata"), values, max_size=5),
)
layouts = st.sampled_from(
    [{"separators": (",", ":")}, {}, {"indent": 1}, {"indent": "\t", "ensure_ascii": False}]
)


@given(st.lists(entities, max_size=3), st.one_of(st.none(), hostile), layouts)
def test_slices_are_the_entities_own_text(found, next_link, layout):
    payload = {"results": found} | ({"__next": next_link} if next_link is not None else {})
    text = json.dumps({"d": payload}, **layout)
    sliced = verbose_json.slice_reply(text)
    assert sliced.kind == "collection"
    assert list(sliced.values) == found
    assert [json.loads(text[start:end]) for start, end in sliced.spans] == found
    assert all(text[start] == "{" and text[end - 1] == "}" for start, end in sliced.spans)
    if next_link is not None:
        assert json.loads(text[slice(*sliced.next_span)]) == next_link


@given(entities, layouts, st.data())
def test_a_reply_that_is_cut_or_has_a_tail_is_refused(entity, layout, data):
    text = json.dumps({"d": entity}, **layout)
    cut = data.draw(st.integers(0, len(text) - 1))
    tail = data.draw(st.sampled_from(["x", "{}", "]", "<error/>", "\x00", "\u2028"]))
    for broken in (text[:cut], text + tail):
        try:
            verbose_json.slice_reply(broken)
        except ODataError:
            continue
        raise AssertionError(broken)


@given(st.one_of(st.text(), hostile, st.text('{}[]",:\\ d1')))
def test_nothing_but_the_protocols_error_leaves_the_readers(text):
    model_type = MODEL.entity_types["N.S"]
    for read in (
        verbose_json.slice_reply,
        verbose_json.members,
        lambda text: verbose_json.parse_posted(text.encode("utf-8", "surrogatepass"), model_type, MODEL),
        lambda text: atom.parse_entry_body(text.encode("utf-8", "surrogatepass"), model_type, MODEL),
    ):
        with contextlib.suppress(ODataError):
            read(text)
    verbose_json.hold_origins(text, ROOT_PATH)
    atom.hold_origins(text, ROOT_PATH)


@given(entities, layouts, st.lists(names, max_size=3))
def test_members_and_selections_are_exact(entity, layout, asked):
    text = json.dumps(entity, **layout)
    found = verbose_json.members(text)
    assert [member.name for member in found] == list(entity)
    assert [json.loads(text[member.value_start : member.end]) for member in found] == list(entity.values())
    selected = verbose_json.select_members(text, asked)
    if not all(name in entity for name in asked):
        assert selected is None
        return
    expected = {name: entity[name] for name in dict.fromkeys(["__metadata", *asked])}
    assert list(json.loads(selected).items()) == list(expected.items())
    pieces = {member.name: text[member.start : member.end] for member in found}
    assert all(pieces[name] in selected for name in expected)


def held(value, inside=""):
    """The same rule by another way: over parsed values, knowing for each string where it stands."""
    if isinstance(value, dict):
        return {
            name: _held_string(each) if _is_link(name, each, inside) else held(each, name)
            for name, each in value.items()
        }
    return [held(each) for each in value] if isinstance(value, list) else value


def _is_link(name, value, inside):
    if not isinstance(value, str):
        return False
    return name == "__next" or (
        inside in ("__metadata", "__deferred") and name in ("uri", "id", "media_src", "edit_media")
    )


def _held_string(value):
    begins = value.lower().startswith(ROOT.lower()) and value[len(ROOT) : len(ROOT) + 1] in ("/", "?", "")
    return verbose_json.PLAIN_ORIGIN + value[len(ORIGIN) :] if begins and value else value


# In `__metadata` only strings stand before a link, as upstream writes it.
flat = st.fixed_dictionaries(
    {}, optional={"type": hostile, "etag": hostile, "n": scalars, "uri": link, "id": link, "media_src": link}
)
plain_names = names.filter(lambda name: not name.startswith("__"))
documents = st.recursive(
    st.one_of(scalars, hostile, link),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.builds(
            lambda about, members: {**about, **members},
            st.fixed_dictionaries({}, optional={"__metadata": flat, "__deferred": flat, "__next": link}),
            st.dictionaries(plain_names, inner, max_size=4),
        ),
    ),
    max_leaves=15,
)


@given(documents, layouts)
@example({"A": f'","__metadata":{{"uri":"{ROOT}/S', "B": "\\"}, {})
@example({'"__next': f"{ROOT}/S"}, {"separators": (",", ":")})
def test_origins_are_held_where_a_link_stands_and_nowhere_else(document, layout):
    text = json.dumps({"e": 0, "document": document}, **layout)
    result = verbose_json.hold_origins(text, ROOT_PATH)
    assert json.loads(result, strict=False) == {"e": 0, "document": held(document)}
    assert verbose_json.restore_origins(result, ORIGIN) == text


SET_TYPE = EntityType(
    "S",
    "N",
    ("Id",),
    {
        name: Property(name, type_name)
        for name, type_name in {
            "Id": "Edm.Guid",
            "Note": "Edm.String",
            "Count": "Edm.Int32",
            "Version": "Edm.Int64",
            "Amount": "N.Money",
            "Owner": "N.Reference",
            "Share": "Edm.Double",
            "Flag": "Edm.Boolean",
            "When": "Edm.DateTime",
        }.items()
    },
    {"nav": NavigationProperty("nav", "N.r", "a", "b", "N.S", "*")},
)
MONEY = ComplexType("Money", "N", {"Value": Property("Value", "Edm.Decimal")})
REFERENCE = ComplexType(
    "Reference",
    "N",
    {
        "Id": Property("Id", "Edm.Guid"),
        "LogicalName": Property("LogicalName", "Edm.String"),
        "Name": Property("Name", "Edm.String"),
    },
)
SET = EntitySet("SSet", SET_TYPE)
MODEL = Model("C", {"N.S": SET_TYPE}, {"N.Money": MONEY, "N.Reference": REFERENCE}, {"SSet": SET})


def _or_none(strategy):
    return st.one_of(st.none(), strategy)


strings = st.one_of(hostile, legal_text)
contents = st.fixed_dictionaries(
    {
        "Id": st.uuids(),
        "Note": _or_none(strings),
        "Count": _or_none(st.integers(-(2**31), 2**31 - 1)),
        "Version": _or_none(st.integers(-(2**63), 2**63 - 1)),
        "Amount": st.fixed_dictionaries({"Value": _or_none(st.decimals(-(10**9), 10**9, places=4))}),
        "Owner": st.fixed_dictionaries(
            {"Id": _or_none(st.uuids()), "LogicalName": _or_none(strings), "Name": _or_none(strings)}
        ),
        # Without the sign of zero: `-0` is an integer to a JSON parser, and integers have but one zero.
        "Share": _or_none(st.floats(allow_nan=False).map(lambda share: share + 0.0)),
        "Flag": _or_none(st.booleans()),
        "When": _or_none(
            st.datetimes().map(lambda when: when.replace(microsecond=when.microsecond // 1000 * 1000))
        ),
    }
)


@given(contents)
def test_json_reads_back_what_it_writes(content):
    text = verbose_json.write_entity(content, SET, MODEL, ROOT)
    assert text.isascii()
    raw = json.loads(text)
    assert verbose_json.parse_entity(raw, SET_TYPE, MODEL) == content
    assert verbose_json.parse_posted(text.encode(), SET_TYPE, MODEL) == content
    assert (
        verbose_json.write_entity(verbose_json.parse_entity(raw, SET_TYPE, MODEL), SET, MODEL, ROOT) == text
    )


@given(contents)
def test_atom_reads_back_what_it_writes_from_the_json_document(content):
    document = verbose_json.write_entity(content, SET, MODEL, ROOT)
    entry = atom.entry_from_document(document, SET, MODEL, title="Note", updated="2016-08-25T16:05:07Z")
    assert atom.parse_entry_body(entry.encode(), SET_TYPE, MODEL) == content
    assert [head.title for head in atom.entry_heads(entry.encode())] == [content["Note"] or ""]


@given(contents)
def test_atoms_origins_are_rewritten_and_no_property_is(content):
    document = verbose_json.write_entity(content, SET, MODEL, ROOT)
    entry = atom.entry_from_document(document, SET, MODEL, title="Note", updated="2016-08-25T16:05:07Z")
    rewritten = atom.rewrite_origins(entry, ROOT_PATH, "http://proxy:8010")
    assert atom.parse_entry_body(rewritten.encode(), SET_TYPE, MODEL) == content
    assert atom.entry_heads(rewritten.encode())[0].title == (content["Note"] or "")
    root = ElementTree.fromstring(rewritten)
    assert root.get("{http://www.w3.org/XML/1998/namespace}base") == f"http://proxy:8010{ROOT_PATH}/"
    assert root.findtext("{http://www.w3.org/2005/Atom}id").startswith(f"http://proxy:8010{ROOT_PATH}/SSet(")
    assert atom.rewrite_origins(rewritten, ROOT_PATH, ORIGIN) == entry


@given(contents, contents)
def test_digests_are_equal_just_where_content_is(one, other):
    def digest(content):
        return verbose_json.content_digest(content, SET_TYPE, MODEL, leave_out=frozenset({"When"}))

    def told(content):
        owner = {name: value for name, value in content["Owner"].items() if name != "Name"}
        return {**content, "When": None, "Owner": owner}

    assert digest(dict(reversed(one.items()))) == digest(one)
    assert (digest(one) == digest(other)) is (told(one) == told(other))
    assert digest({**one, "When": other["When"]}) == digest(one)
