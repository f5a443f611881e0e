"""What `$filter` and `$orderby` may say to Dynamics 2011, and how it refuses the rest (field manual, 3).

Only judged here: what passes is bound and worked out by others. Types are seen as the families that may be
compared with each other; a null goes with all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from proxy.odata.dialect import ORDER_LIMIT, Dialect, no_property
from proxy.odata.edm import EntitySet, Model
from proxy.odata.errors import ODataError
from proxy.odata.expressions import (
    Binary,
    Call,
    Expression,
    Literal,
    Logical,
    OrderItem,
    PropertyPath,
    Unary,
)
from proxy.odata.relationships import Relationships

_COMPARISONS = frozenset({"eq", "ne", "lt", "le", "gt", "ge"})
_NUMBERS = frozenset({"int32", "int64", "decimal", "double"})
_FAMILIES: Mapping[str, str] = {
    "Edm.Byte": "int32",
    "Edm.SByte": "int32",
    "Edm.Int16": "int32",
    "Edm.Int32": "int32",
    "Edm.Int64": "int64",
    "Edm.Decimal": "decimal",
    "Edm.Single": "double",
    "Edm.Double": "double",
    "Edm.String": "string",
    "Edm.Boolean": "boolean",
    "Edm.Guid": "guid",
    "Edm.DateTime": "datetime",
    "Edm.DateTimeOffset": "datetimeoffset",
    "Edm.Time": "time",
    "Edm.Binary": "binary",
    "null": "null",
}
_UNORDERED = frozenset({"boolean", "binary"})
_TEXT, _DATE, _WHOLE = frozenset({"string"}), frozenset({"datetime"}), frozenset({"int32", "int64"})
# The families that each argument may be of, and that of the result ("": the argument's).
_FUNCTIONS: Mapping[str, tuple[tuple[frozenset[str], ...], str]] = {
    **dict.fromkeys(("substringof", "startswith", "endswith"), ((_TEXT, _TEXT), "boolean")),
    "length": ((_TEXT,), "int32"),
    "indexof": ((_TEXT, _TEXT), "int32"),
    "replace": ((_TEXT, _TEXT, _TEXT), "string"),
    "substring": ((_TEXT, _WHOLE, _WHOLE), "string"),
    **dict.fromkeys(("tolower", "toupper", "trim"), ((_TEXT,), "string")),
    "concat": ((_TEXT, _TEXT), "string"),
    **dict.fromkeys(("year", "month", "day", "hour", "minute", "second"), ((_DATE,), "int32")),
    **dict.fromkeys(("round", "floor", "ceiling"), ((_NUMBERS,), "")),
}
_NARROW_FUNCTIONS = frozenset({"substringof", "startswith", "endswith"})


@dataclass(frozen=True, slots=True)
class Judge:
    """`expanded`: the navigation properties that the request expands; only those may be filtered by."""

    entity_set: EntitySet
    model: Model
    relationships: Relationships
    expanded: frozenset[str]
    dialect: Dialect

    def check_filter(self, expression: Expression) -> None:
        """Raises ODataError, 400; 501 for a function that no server of this kind has."""
        if self.dialect.is_narrow:
            _check_narrow(expression)
            self._check_one_group(expression)
        if self._family(expression) not in ("boolean", "null"):
            raise ODataError("The $filter expression must evaluate to a single boolean value.")

    def check_orderby(self, items: Sequence[OrderItem]) -> None:
        """Raises ODataError."""
        narrow = self.dialect.is_narrow
        if narrow and len(items) > ORDER_LIMIT:
            raise ODataError(f"At most {ORDER_LIMIT} columns can be sorted by.")
        for item in items:
            path = item.expression
            if narrow and not isinstance(path, PropertyPath):
                raise ODataError("Only properties can be sorted by.")
            if narrow and isinstance(path, PropertyPath) and self._is_navigation(path):
                raise ODataError(
                    "Only properties of the root entity can be sorted by.", position=path.position
                )
            self._family(path)

    def _is_navigation(self, path: PropertyPath) -> bool:
        return path.segments[0] in self.entity_set.entity_type.navigation_properties

    def _check_one_group(self, expression: Expression) -> None:
        groups = {
            path.segments[0] if self._is_navigation(path) else ""
            for path in _parts(expression)
            if isinstance(path, PropertyPath)
        }
        if len(groups) > 1:
            raise ODataError("Invalid 'where' condition. It may test the root entity or one expanded entity.")

    # Families

    def _family(self, expression: Expression) -> str:
        match expression:
            case Literal():
                return _FAMILIES[expression.type]
            case PropertyPath():
                return self._path(expression)
            case Logical():
                for operand in expression.operands:
                    self._condition(operand)
                return "boolean"
            case Unary():
                return self._unary(expression)
            case Binary():
                return self._binary(expression)
            case _:
                return self._call(expression)

    def _path(self, path: PropertyPath) -> str:
        entity_type = self.entity_set.entity_type
        name, *rest = path.segments
        declared = entity_type.properties.get(name)
        if declared is None:
            if name in entity_type.navigation_properties:
                return self._navigated(path)
            raise no_property(name, entity_type.qualified_name, path.position)
        if not rest:
            if not declared.type.startswith("Edm."):
                raise ODataError(
                    f"The property '{name}' is complex: name a member of it.", position=path.position
                )
            return _FAMILIES[declared.type]
        complex_type = self.model.complex_type(declared.type)
        if complex_type is None or len(rest) > 1 or rest[0] not in complex_type.properties:
            raise no_property(rest[0], declared.type, path.position)
        return _FAMILIES[complex_type.properties[rest[0]].type]

    def _navigated(self, path: PropertyPath) -> str:
        name, *rest = path.segments
        relationship = self.relationships.of(self.entity_set, name)
        if relationship is None or not rest:
            raise ODataError(f"The navigation property '{name}' cannot be compared.", position=path.position)
        if name not in self.expanded and self.dialect.is_narrow:
            raise ODataError(
                f"The navigation property '{name}' must be named in $expand.", position=path.position
            )
        if relationship.many:
            raise ODataError(
                f"The navigation property '{name}' leads to many entities.", position=path.position
            )
        below = Judge(relationship.target, self.model, self.relationships, frozenset(), self.dialect)
        return below._path(PropertyPath(tuple(rest), path.position))

    def _leads_to_an_entity(self, path: PropertyPath) -> bool:
        """Navigation properties alone: an entity is null where its key is."""
        entity_set = self.entity_set
        for name in path.segments:
            relationship = self.relationships.of(entity_set, name)
            if relationship is None:
                return False
            entity_set = relationship.target
        return True

    def _condition(self, expression: Expression) -> None:
        if self._family(expression) not in ("boolean", "null"):
            raise ODataError("A boolean expression was expected.")

    def _unary(self, expression: Unary) -> str:
        if expression.operator == "not":
            self._condition(expression.operand)
            return "boolean"
        family = self._family(expression.operand)
        if family not in (*_NUMBERS, "null"):
            raise ODataError("Only a number can be negated.")
        return family

    def _binary(self, expression: Binary) -> str:
        operator = expression.operator
        if operator in _COMPARISONS and self._is_null_test(expression):
            return "boolean"
        left, right = self._family(expression.left), self._family(expression.right)
        family = _common(left, right)
        if family is None:
            raise ODataError(
                f"Operator '{operator}' incompatible with operand types"
                f" '{_named(left)}' and '{_named(right)}'.",
                position=expression.position,
            )
        if operator in _COMPARISONS:
            if operator not in ("eq", "ne") and family in _UNORDERED:
                raise ODataError(
                    f"Operator '{operator}' incompatible with operand types '{family}' and '{family}'."
                )
            return "boolean"
        if family not in (*_NUMBERS, "null"):
            raise ODataError(f"Operator '{operator}' takes numbers.", position=expression.position)
        return family

    def _is_null_test(self, expression: Binary) -> bool:
        for tested, other in ((expression.left, expression.right), (expression.right, expression.left)):
            if isinstance(other, Literal) and other.type == "null":
                if expression.operator not in ("eq", "ne"):
                    if self.dialect.is_narrow:
                        raise ODataError(f"Operator '{expression.operator}' cannot compare with null.")
                    return False
                is_path = isinstance(tested, PropertyPath) and not self.dialect.is_narrow
                if not (is_path and isinstance(tested, PropertyPath) and self._leads_to_an_entity(tested)):
                    self._family(tested)
                return True
        return False

    def _call(self, call: Call) -> str:
        if call.name not in _FUNCTIONS:
            raise ODataError(f"The function '{call.name}' is not served.", status=501)
        wanted, result = _FUNCTIONS[call.name]
        found = [self._family(argument) for argument in call.arguments]
        if any(family not in slot and family != "null" for family, slot in zip(found, wanted, strict=False)):
            raise ODataError(
                f"No applicable function found for '{call.name}' with these arguments.",
                position=call.position,
            )
        return result or found[0]


def _common(left: str, right: str) -> str | None:
    """What both operands are taken as; None where they do not go together."""
    families = {left, right} - {"null"}
    if len(families) == 2:
        return "decimal" if families <= _NUMBERS else None
    return next(iter(families), "null")


def _named(family: str) -> str:
    return "number" if family in _NUMBERS else family


def _check_narrow(expression: Expression) -> None:
    """No arithmetic, and no functions but three."""
    for part in _parts(expression):
        if isinstance(part, Call) and part.name not in _NARROW_FUNCTIONS:
            raise ODataError(
                "Invalid 'where' condition. An entity member is invoking an invalid property or method.",
                position=part.position,
            )
        if (isinstance(part, Unary) and part.operator == "-") or (
            isinstance(part, Binary) and part.operator not in _COMPARISONS
        ):
            raise ODataError("Invalid 'where' condition. Arithmetic is not supported.")


def _parts(expression: Expression) -> Iterator[Expression]:
    """The expression and all within it, from the outside in."""
    yield expression
    match expression:
        case Logical():
            operands = expression.operands
        case Binary():
            operands = (expression.left, expression.right)
        case Unary():
            operands = (expression.operand,)
        case Call():
            operands = expression.arguments
        case _:
            operands = ()
    for operand in operands:
        yield from _parts(operand)
