"""From shapes of inputs to values of a model's symbols, and whether what the model assumes of them is true."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from npuvm.compiler.graph.model import Guard, Model, ValueType
from npuvm.compiler.graph.sums import Computed, Sum
from npuvm.compiler.graph.symbols import Derived
from npuvm.compiler.graph.types import dims_text
from npuvm.runtime.session.errors import SessionError

__all__ = [
    "LARGEST_DIM",
    "Binding",
    "GuardFails",
    "bind_value",
    "compile_guards",
    "depends_on",
    "derive",
    "sizes_text",
    "symbols_of",
]

LARGEST_DIM = (1 << 31) - 1
"""The largest size that a dim may have."""

Binding = dict[str, int]
"""Values of symbols by name."""

Shape = tuple[int, ...]


class GuardFails(SessionError):
    """Sizes for which the model as it was read is not right. `binding` are the symbols that are known by then."""

    def __init__(self, guard: Guard, binding: Mapping[str, int]) -> None:
        super().__init__(f"{guard} does not hold for {sizes_text(guard, binding)}", guard.origin or None)
        self.binding = dict(binding)


def sizes_text(guard: Guard, binding: Mapping[str, int]) -> str:
    """The symbols of a guard with their values."""
    names = sorted(symbols_of(guard.left) | symbols_of(guard.right))
    return ", ".join(f"{name} = {binding[name]}" for name in names)


def symbols_of(value: Sum) -> set[str]:
    """Names in a sum."""
    return {symbol for term in value.terms for symbol in term.symbols}


def depends_on(derived: Derived | Computed) -> set[str]:
    """Names that a derived symbol is computed from."""
    if isinstance(derived, Derived):
        return {*derived.numerator.symbols, *derived.denominator.symbols}
    return {symbol for each in derived.args for symbol in symbols_of(each)}


def bind_value(
    what: str, name: str, kind: ValueType, shape: Shape, binding: Binding, origin: dict[str, str], model: Model
) -> None:
    """Take the symbols of one value from its shape. SessionError naming `what` it is, the dim, and what is allowed."""
    if kind.shape is None:
        return
    if len(shape) != len(kind.shape):
        expected = f"{what} '{name}' is {kind} of rank {len(kind.shape)}"
        raise SessionError(f"{expected}, got shape {list(shape)} of rank {len(shape)}", model.name)
    for axis, (dim, size) in enumerate(zip(kind.shape, shape, strict=True)):
        place = f"{what} '{name}', dim {axis}"
        if isinstance(dim, int):
            if dim != size:
                raise SessionError(f"{place} must be {dim}, got {size} in shape {list(shape)}", model.name)
        elif binding.setdefault(dim, size) != size:
            known = f"{dim} = {binding[dim]} by {origin.get(dim, 'the sizes before')}"
            raise SessionError(f"{place} is {size}, but {known}; it is [{dims_text(kind.shape)}]", model.name)
        else:
            origin.setdefault(dim, place)


def derive(derived: Sequence[Derived | Computed], binding: Binding) -> None:
    """Add values of derived symbols, all of whose sizes are known."""
    for each in derived:
        binding[each.name] = each.value(binding)


def compile_guards(guards: Sequence[Guard]) -> Callable[[Mapping[str, int]], int]:
    """A function that gives the number of the first guard that does not hold for values of the symbols, or -1."""
    lines = ["def first(b):"]
    for at, guard in enumerate(guards):
        left, right = _text(guard.left), _text(guard.right)
        if guard.relation == "%":
            lines += [f"    r = {right}", f"    if {left} != 0 if r == 0 else {left} % r != 0: return {at}"]
        else:
            lines.append(f"    if not ({left} {guard.relation} {right}): return {at}")
    lines.append("    return -1")
    scope: dict[str, Any] = {}
    # The text is made of operators, numbers and names of symbols, which are quoted.
    exec("\n".join(lines), scope)
    made: Callable[[Mapping[str, int]], int] = scope.pop("first")  # else both would hold each other
    return made


def _text(value: Sum) -> str:
    terms = [" * ".join([str(term.factor), *(f"b[{symbol!r}]" for symbol in term.symbols)]) for term in value.terms]
    return f"({' + '.join(terms)})" if terms else "0"


def available(derived: Sequence[Derived | Computed], known: Collection[str]) -> list[Derived | Computed]:
    """Those of the derived symbols that follow from known ones and from each other, in order; known ones are among them."""
    names, found = set(known), []
    for each in derived:
        if depends_on(each) <= names:
            found.append(each)
            names.add(each.name)
    return found
