"""Formulas that are written once, for arrays of numbers and for one number after the other.

The code of a formula calculates with arrays, or it is run once with `Term`s, which remember how they were made. Those become
functions of plain numbers, one inside the other: what does not depend on the innermost variables is calculated once for all
their values.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

__all__ = [
    "Term",
    "Value",
    "compile_term",
    "compile_terms",
    "largest",
    "least",
    "nodes_of",
    "over",
    "pick",
    "same",
    "variable",
]

Value = Any
"""A number, an array of numbers, or a Term."""


class Term:
    """A number that is known later: `text` is Python with a place for each of the inputs, or the name of a variable."""

    __slots__ = ("inputs", "text")

    def __init__(self, text: str, inputs: tuple[Value, ...] = ()) -> None:
        self.text, self.inputs = text, inputs

    def __add__(self, other: Value) -> Value:
        return self if _is(other, 0) else Term("{0} + {1}", (self, other))

    __radd__ = __add__

    def __sub__(self, other: Value) -> Value:
        return Term("{0} - {1}", (self, other))

    def __rsub__(self, other: Value) -> Value:
        return Term("{0} - {1}", (other, self))

    def __mul__(self, other: Value) -> Value:
        return self if _is(other, 1) else Term("{0} * {1}", (self, other))

    __rmul__ = __mul__

    def __truediv__(self, other: Value) -> Value:
        return self if _is(other, 1) else Term("{0} / {1}", (self, other))

    def __rtruediv__(self, other: Value) -> Value:
        return Term("{0} / {1}", (other, self))

    def __floordiv__(self, other: Value) -> Value:
        return Term("{0} // {1}", (self, other))

    def __rfloordiv__(self, other: Value) -> Value:
        return Term("{0} // {1}", (other, self))

    def __mod__(self, other: Value) -> Value:
        return Term("{0} % {1}", (self, other))

    def __neg__(self) -> Value:
        return Term("-{0}", (self,))

    def __bool__(self) -> bool:
        raise TypeError("a formula cannot depend on the value of a term")


def variable(name: str) -> Value:
    """A number that is known later, for code that is typed for numbers."""
    return Term(name)


def _is(value: Value, number: int) -> bool:
    return isinstance(value, int | float) and value == number


def _known(*inputs: Value) -> bool:
    return not any(isinstance(each, Term) for each in inputs)


def _plain(*inputs: Value) -> bool:
    """Whether all are numbers of Python, whose text is that of the number."""
    return all(isinstance(each, int | float) and not isinstance(each, np.generic) for each in inputs)


def least(a: Value, b: Value) -> Value:
    """The smaller of two."""
    if _plain(a, b):
        return min(a, b)
    return np.minimum(a, b) if _known(a, b) else Term("{0} if {0} < {1} else {1}", (a, b))


def largest(a: Value, b: Value) -> Value:
    """The larger of two."""
    if _plain(a, b):
        return max(a, b)
    return np.maximum(a, b) if _known(a, b) else Term("{0} if {0} > {1} else {1}", (a, b))


def pick(condition: Value, yes: Value, no: Value) -> Value:
    """One of two, as the condition says."""
    if isinstance(condition, bool):
        return yes if condition else no
    return (
        np.where(condition, yes, no)
        if _known(condition, yes, no)
        else Term("{1} if {0} else {2}", (condition, yes, no))
    )


def same(a: Value, b: Value) -> Value:
    """Whether two numbers are equal."""
    return a == b if _known(a, b) else Term("{0} == {1}", (a, b))


def over(a: Value, b: Value) -> Value:
    """1 where a number is larger than another, 0 where it is not."""
    return pick(Term("{0} > {1}", (a, b)), 1, 0) if not _known(a, b) else pick(a > b, 1, 0)


def compile_term(first: Sequence[str], then: Sequence[str], value: Term) -> Callable[..., Callable[..., float]]:
    """A function of the variables `first`, which returns one of the variables `then`, which returns the value."""
    writer = _Writer(then)
    result = writer.add(value)
    scope: dict[str, Any] = {}
    # The text is made of names, numbers and operators written here, never of a user's input.
    exec(writer.text(first, then, result), scope)
    made: Callable[..., Callable[..., float]] = scope.pop("outer")  # else both would hold each other
    return made


def compile_terms(
    first: Sequence[str], then: Sequence[str], values: Sequence[Value]
) -> Callable[..., Callable[..., tuple[float, ...]]]:
    """The same for several values."""
    places = ", ".join([f"{{{at}}}" for at in range(len(values))])
    made: Callable[..., Any] = compile_term(first, then, Term(f"({places},)", tuple(values)))
    return made


Node = tuple[str, str, tuple[str, ...], bool]
"""The name of a value, its text with a place for each input, their names, and whether it needs variables that come late."""


def nodes_of(then: Sequence[str], values: Sequence[Value]) -> tuple[list[str], list[Node]]:
    """Names of the values, and what they are made of in an order in which it can be calculated; the first node is "t0".

    A value that is a plain number has its text for a name, one that is a variable that of the variable.
    """
    writer = _Writer(then)
    names = [writer.add(each) for each in values]
    return names, writer.nodes()


class _Writer:
    """Writes terms as two functions. Equal terms are one node, which gets a name where it is used more than once."""

    def __init__(self, inner: Sequence[str]) -> None:
        self._seen: dict[int, str] = {}
        self._names: dict[str, str] = {}
        self._late: set[str] = set(inner)
        self._nodes: list[tuple[str, str, tuple[str, ...]]] = []

    def add(self, value: Value) -> str:
        """The name of a term's node or variable; the text of a plain number."""
        if not isinstance(value, Term):
            return repr(value)
        if not value.inputs:
            return value.text
        found = self._seen.get(id(value))
        if found is None:
            inputs = tuple([self.add(each) for each in value.inputs])
            text = value.text.format(*inputs)
            found = self._names.get(text)
            if found is None:
                found = self._names[text] = f"t{len(self._nodes)}"
                self._nodes.append((found, value.text, inputs))
                if not self._late.isdisjoint(inputs):
                    self._late.add(found)
            self._seen[id(value)] = found
        return found

    def nodes(self) -> list[Node]:
        """All nodes in order."""
        return [(name, text, inputs, name in self._late) for name, text, inputs in self._nodes]

    def text(self, first: Sequence[str], then: Sequence[str], result: str) -> str:
        """The text of a function `outer` of `first`, which returns one of `then`."""
        uses = Counter(self._uses())
        early, late = [], []
        written: dict[str, str] = {}
        for name, text, inputs in self._nodes:
            expression = f"({text.format(*[written.get(each, each) for each in inputs])})"
            if uses[name] == 1:
                written[name] = expression
            elif name in self._late:
                late.append(f"        {name} = {expression}")
            else:
                early.append(f"    {name} = {expression}")
        head, inner = f"def outer({', '.join(first)}):", f"    def inner({', '.join(then)}):"
        ends = [f"        return {written.get(result, result)}", "    return inner"]
        return "\n".join([head, *early, inner, *late, *ends])

    def _uses(self) -> Iterator[str]:
        """Names as often as they are written; once more where a function takes them from the one around it."""
        for name, text, inputs in self._nodes:
            for at, each in enumerate(inputs):
                yield from [each] * text.count(f"{{{at}}}")
                if name in self._late and each not in self._late:
                    yield each
