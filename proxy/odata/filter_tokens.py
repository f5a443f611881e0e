"""The tokens of `$filter` and `$orderby`."""

from __future__ import annotations

import re
from typing import NamedTuple

from proxy.odata.errors import ODataError

# A path is one token: the standard has no blanks around its slashes. Dots only occur in type names, which
# the parser admits as arguments of isof and cast and nowhere else.
_TOKEN = re.compile(
    r"""\s*+(?:
        (?P<literal>
            [A-Za-z]*+'(?>[^']*(?:''[^']*)*)'
          | -?[0-9]++(?:\.[0-9]++)?(?:[eE][+-]?[0-9]++)?[LlMmDdFf]?+(?![\w.])
          | (?:-?INF|NaN)[DdFf]?+(?![\w./(])
        )
      | (?P<word>[^\W\d]\w*+(?:[./][^\W\d]\w*+)*)
      | (?P<mark>[(),-])
      | (?P<end>\Z)
    )""",
    re.VERBOSE,
)


class Token(NamedTuple):
    """`kind` is "literal", "word" (a path, name or operator), "mark" or "end"; `position` counts from 0."""

    kind: str
    text: str
    position: int


def tokenize(text: str) -> list[Token]:
    """Cut the whole text in one pass; the last token is the end. ODataError where no token begins."""
    tokens = []
    position = 0
    while True:
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise _no_token(text, position)
        kind = match.lastgroup
        tokens.append(Token(kind, match[kind], match.start(kind)))
        if kind == "end":
            return tokens
        position = match.end()


def _no_token(text: str, position: int) -> ODataError:
    rest = text[position:].lstrip()
    position = len(text) - len(rest)
    found = re.match(r"[\w.]+|.", rest, re.DOTALL)
    start = found[0] if found else ""
    what = "unterminated string literal" if start == "'" else f"unexpected '{start[:60]}'"
    return ODataError(f"Syntax error at position {position}: {what}.", position=position, token=start)
