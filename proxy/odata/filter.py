"""`$filter` and `$orderby`: parser and printer of the whole expression language of OData v2.

The grammar and its precedence are those of the OData v2 URI conventions (4.5) as the WCF Data Services
parser reads them: from loose to tight `or`, `and`, `eq ne`, `lt le gt ge`, `add sub`, `mul div mod`, `not -`.
So `not a eq b` is `(not a) eq b`. Operators are words with case, and only where an operator can stand: a
property may be called `eq`. What a server makes of an expression is not judged here; Dynamics takes a small
part of it (field manual 3.1).

Parsing takes linear time. Depth (brackets, calls and chains of operators alike) is bounded, because whoever
walks the tree recurses; chains of `and` and `or` are flat and bounded by their number of terms.
"""

from __future__ import annotations

from collections.abc import Iterable

from proxy.odata.errors import ODataError
from proxy.odata.expressions import Binary, Call, Expression, Literal, Logical, OrderItem, PropertyPath, Unary
from proxy.odata.filter_tokens import Token, tokenize
from proxy.odata.primitives import parse_literal

_OR, _AND, _UNARY, _PRIMARY = 1, 2, 7, 8
_LOGICAL = frozenset({"or", "and"})
_PRECEDENCE = {
    "or": _OR,
    "and": _AND,
    "eq": 3,
    "ne": 3,
    "lt": 4,
    "le": 4,
    "gt": 4,
    "ge": 4,
    "add": 5,
    "sub": 5,
    "mul": 6,
    "div": 6,
    "mod": 6,
}
# Function names with the numbers of arguments they take (OData v2 URI conventions, 4.5).
_FUNCTIONS = {
    "substringof": (2,),
    "endswith": (2,),
    "startswith": (2,),
    "length": (1,),
    "indexof": (2,),
    "replace": (3,),
    "substring": (2, 3),
    "tolower": (1,),
    "toupper": (1,),
    "trim": (1,),
    "concat": (2,),
    "day": (1,),
    "hour": (1,),
    "minute": (1,),
    "month": (1,),
    "second": (1,),
    "year": (1,),
    "round": (1,),
    "floor": (1,),
    "ceiling": (1,),
    "isof": (1, 2),
    "cast": (1, 2),
}
_TYPE_FUNCTIONS = frozenset({"isof", "cast"})
_KEYWORD_LITERALS = frozenset({"null", "true", "false"})

DEPTH_LIMIT = 50
TERM_LIMIT = 2000


def parse_filter(text: str, *, depth: int = DEPTH_LIMIT, terms: int = TERM_LIMIT) -> Expression:
    """Read a decoded `$filter`.

    `depth` bounds the height of the tree, `terms` the operands of all its `and` and `or` together. Raises
    ODataError with position and token.
    """
    parser = _Parser(text, depth, terms)
    expression = parser.expression()
    parser.expect_end()
    return expression


def parse_orderby(text: str, *, depth: int = DEPTH_LIMIT, terms: int = TERM_LIMIT) -> tuple[OrderItem, ...]:
    """Read a decoded `$orderby`: expressions, each with `asc` (the default) or `desc`.

    Limits and errors are those of `parse_filter`; `terms` bounds the items as well.
    """
    parser = _Parser(text, depth, terms)
    items: list[OrderItem] = []
    while not items or parser.take("mark", ","):
        parser.count_terms(1)
        items.append(parser.order_item())
    parser.expect_end()
    return tuple(items)


class _Parser:
    """Recursive descent over the tokens; every rule gives an expression and the height of its tree."""

    def __init__(self, text: str, depth: int, terms: int) -> None:
        self._tokens = tokenize(text)
        self._index = 0
        self._depth_limit = depth
        self._nesting = 0
        self._terms_left = terms

    @property
    def _token(self) -> Token:
        return self._tokens[self._index]

    def take(self, kind: str, text: str) -> bool:
        token = self._token
        if token.kind == kind and token.text == text:
            self._index += 1
            return True
        return False

    def expect_end(self) -> None:
        if self._token.kind != "end":
            raise _unexpected(self._token)

    def count_terms(self, more: int) -> None:
        self._terms_left -= more
        if self._terms_left < 0:
            raise self._refused("too many terms")

    def expression(self) -> Expression:
        return self._climb(_OR)[0]

    def order_item(self) -> OrderItem:
        expression = self.expression()
        descending = self.take("word", "desc")
        if not descending:
            self.take("word", "asc")
        return OrderItem(expression, descending)

    def _refused(self, what: str) -> ODataError:
        token = self._token
        return ODataError(
            f"The expression has {what} at position {token.position}.",
            position=token.position,
            token=token.text,
        )

    def _bounded(self, height: int) -> int:
        if height > self._depth_limit:
            raise self._refused("too many levels")
        return height

    def _climb(self, level: int) -> tuple[Expression, int]:
        """Operators of `level` and tighter; those of one level group to the left."""
        left, height = self._unary()
        while (token := self._token).kind == "word":
            precedence = _PRECEDENCE.get(token.text, 0)
            if precedence < level:
                break
            if token.text in _LOGICAL:
                left, height = self._chain(token, precedence, left, height)
            else:
                self._index += 1
                right, other = self._climb(precedence + 1)
                left = Binary(token.text, left, right, token.position)
                height = self._bounded(max(height, other) + 1)
        return left, height

    def _chain(self, token: Token, precedence: int, first: Expression, height: int) -> tuple[Expression, int]:
        """All operands of one flat `and` or `or`, the first of them read already."""
        operator = token.text
        operands = list(_operands(operator, first))
        self.count_terms(1)
        while self.take("word", operator):
            self.count_terms(1)
            expression, other = self._climb(precedence + 1)
            operands += _operands(operator, expression)
            height = max(height, other)
        return Logical(operator, tuple(operands), token.position), self._bounded(height + 1)

    def _unary(self) -> tuple[Expression, int]:
        position = self._token.position
        if self.take("mark", "-"):
            operator = "-"
        elif self.take("word", "not"):
            operator = "not"
        else:
            return self._primary()
        self._enter()
        operand, height = self._unary()
        self._nesting -= 1
        return Unary(operator, operand, position), self._bounded(height + 1)

    def _primary(self) -> tuple[Expression, int]:
        token = self._token
        if token.kind == "literal" or token.text in _KEYWORD_LITERALS:
            self._index += 1
            return parse_literal(token.text, token.position), 1
        if token.kind == "word":
            self._index += 1
            if self.take("mark", "("):
                return self._call(token)
            return _property_path(token), 1
        if self.take("mark", "("):
            self._enter()
            expression, height = self._climb(_OR)
            self._nesting -= 1
            self._close()
            return expression, height
        raise _unexpected(token)

    def _call(self, name: Token) -> tuple[Expression, int]:
        counts = _FUNCTIONS.get(name.text)
        if counts is None:
            raise ODataError(
                f"Unknown function '{name.text[:60]}' at position {name.position}.",
                position=name.position,
                token=name.text,
            )
        self._enter()
        arguments: list[Expression] = []
        height = 0
        while not arguments or self.take("mark", ","):
            argument, other = self._argument(name.text)
            arguments.append(argument)
            height = max(height, other)
        self._nesting -= 1
        self._close()
        if len(arguments) not in counts:
            raise ODataError(
                f"The function '{name.text}' at position {name.position} takes"
                f" {' or '.join(map(str, counts))} arguments, not {len(arguments)}.",
                position=name.position,
                token=name.text,
            )
        return Call(name.text, tuple(arguments), name.position), self._bounded(height + 1)

    def _argument(self, function: str) -> tuple[Expression, int]:
        token = self._token
        if (
            function in _TYPE_FUNCTIONS
            and token.kind == "word"
            and "." in token.text
            and "/" not in token.text
        ):
            self._index += 1
            return PropertyPath((token.text,), token.position), 1
        return self._climb(_OR)

    def _enter(self) -> None:
        # Brackets make no node, so they must be bounded by themselves.
        self._nesting += 1
        self._bounded(self._nesting)

    def _close(self) -> None:
        if not self.take("mark", ")"):
            raise _unexpected(self._token)


def _operands(operator: str, expression: Expression) -> Iterable[Expression]:
    if isinstance(expression, Logical) and expression.operator == operator:
        return expression.operands
    return (expression,)


def _property_path(token: Token) -> PropertyPath:
    if "." in token.text:
        raise _unexpected(token)
    return PropertyPath(tuple(token.text.split("/")), token.position)


def _unexpected(token: Token) -> ODataError:
    what = "unexpected end" if token.kind == "end" else f"unexpected '{token.text[:60]}'"
    return ODataError(
        f"Syntax error at position {token.position}: {what}.", position=token.position, token=token.text
    )


def print_filter(expression: Expression) -> str:
    """The text of a tree, with no more brackets than it needs; literals as their `text` says."""
    return _printed(expression)[0]


def print_orderby(items: Iterable[OrderItem]) -> str:
    """The text of `$orderby`; the direction is named where it is `desc`."""
    return ",".join(print_filter(item.expression) + (" desc" if item.descending else "") for item in items)


def _printed(expression: Expression) -> tuple[str, int]:
    """The text, and how tightly its outermost operator binds."""
    match expression:
        case Literal(text=text):
            return text, _PRIMARY
        case PropertyPath(segments=segments):
            return "/".join(segments), _PRIMARY
        case Call(name=name, arguments=arguments):
            return f"{name}({','.join(_printed(argument)[0] for argument in arguments)})", _PRIMARY
        case Unary(operator=operator, operand=operand):
            return _printed_unary(operator, operand), _UNARY
        case Binary(operator=operator, left=left, right=right):
            level = _PRECEDENCE[operator]
            return f"{_at(left, level)} {operator} {_at(right, level + 1)}", level
        case Logical(operator=operator, operands=operands):
            level = _PRECEDENCE[operator]
            return f" {operator} ".join(_at(operand, level + 1) for operand in operands), level


def _at(expression: Expression, level: int) -> str:
    """Bracketed where it binds more loosely than its place demands."""
    text, own_level = _printed(expression)
    return text if own_level >= level else f"({text})"


def _printed_unary(operator: str, operand: Expression) -> str:
    text = _at(operand, _UNARY)
    if operator == "not":
        return f"not {text}"
    # `-5` would be read back as one literal.
    return f"-({text})" if isinstance(operand, Literal) else f"-{text}"
