"""Integers that are not known yet: what a template is written with, before a shape gives its sizes.

A SymInt passes for an int in arithmetic and remembers how it was made. It refuses to be compared or tested, so code that writes
a template cannot look at a size; what it may not look at, it cannot specialise on. Two are equal when they are equal for all
values, as far as expanding products and sums tells.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, NoReturn

import numpy as np

from npuvm.compiler.graph.types import DTYPES

__all__ = ["Function", "SymInt", "aligned", "ceil_div", "compile_values", "float_bits", "larger", "several"]

_FP32 = struct.Struct("<f")

_KEPT = 1024
"""Functions, and sizes rounded up, that are kept."""

Monomial = tuple[str, ...]
"""Names of variables and quotients that are multiplied, sorted."""

Polynomial = Mapping[Monomial, int]

Function = Callable[..., tuple[int, ...]]
"""Values of expressions for values of variables."""


class _Quotient(str):
    """A value that a polynomial cannot express: `rule` computes it from `inputs`. Its text is its name, so equals are one."""

    rule: str
    inputs: tuple[SymInt, ...]


class SymInt(int):
    """A polynomial with whole coefficients over variables and over quotients of other such polynomials."""

    _terms: Polynomial
    _text: str | None
    _hash: int | None

    @staticmethod
    def variable(name: str) -> SymInt:
        """A value that is given later."""
        return _made({(name,): 1})

    @staticmethod
    def _call(rule: str, *inputs: SymInt) -> SymInt:
        quotient = _Quotient(f"<{rule.format(*(f'({each.text()})' for each in inputs))}>")
        quotient.rule, quotient.inputs = rule, inputs
        return _made({(quotient,): 1})

    @property
    def atoms(self) -> Iterator[str]:
        """Variables and quotients, some more than once."""
        return (atom for monomial in self._terms for atom in monomial)

    def text(self, names: Mapping[str, str] | None = None) -> str:
        """The expression; `names` replaces those of variables and quotients."""
        if names is None:
            if self._text is None:
                self._text = self._written(None)
            return self._text
        return self._written(names)

    def _written(self, names: Mapping[str, str] | None) -> str:
        parts = []
        for monomial, factor in sorted(self._terms.items()):
            written = [names[each] if names else each for each in monomial]
            if factor != 1 or not written:
                written.append(str(factor))
            parts.append(" * ".join(written))
        return " + ".join(parts) or "0"

    # Arithmetic.

    def __add__(self, other: int) -> int:
        return _sum(self._terms, _terms_of(other), 1)

    __radd__ = __add__

    def __sub__(self, other: int) -> int:
        return _sum(self._terms, _terms_of(other), -1)

    def __rsub__(self, other: int) -> int:
        return _sum(_terms_of(other), self._terms, -1)

    def __neg__(self) -> int:
        return _made({monomial: -factor for monomial, factor in self._terms.items()})

    def __mul__(self, other: int) -> int:
        if not isinstance(other, SymInt):
            return _made({monomial: factor * other for monomial, factor in self._terms.items()}) if other else 0
        total: dict[Monomial, int] = {}
        for left, x in self._terms.items():
            for each, y in other._terms.items():
                joined = tuple(sorted(left + each))
                total[joined] = total.get(joined, 0) + x * y
        return _simple(total)

    __rmul__ = __mul__

    def __floordiv__(self, other: int) -> int:
        exact = _exact_quotient(self, other)
        return exact if exact is not None else SymInt._call("{0} // {1}", self, _made(_terms_of(other)))

    def __rfloordiv__(self, other: int) -> int:
        return SymInt._call("{0} // {1}", _made(_terms_of(other)), self)

    def __mod__(self, other: int) -> int:
        return self - self // other * other

    def __rmod__(self, other: int) -> int:
        return other - other // self * self

    # Equality is structural; nothing else can be known.

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self._terms.items()))
        return self._hash

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SymInt) and self._terms == other._terms

    def __ne__(self, other: object) -> bool:
        return not self == other

    def _refuse(self, *_: object) -> NoReturn:
        raise TypeError(f"a template cannot depend on the value of {self.text()}")

    __bool__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __index__ = __int__ = __float__ = _refuse
    __divmod__ = __rdivmod__ = __truediv__ = __rtruediv__ = __pow__ = _refuse

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__


def several(size: int) -> bool:
    """Whether a size may be more than one: so for each that is not known yet."""
    return isinstance(size, SymInt) or size > 1


def larger(a: int, b: int) -> int:
    """The larger of two sizes; later, where one of them is not known yet."""
    if isinstance(a, SymInt) or isinstance(b, SymInt):
        return SymInt._call("max({0}, {1})", _made(_terms_of(a)), _made(_terms_of(b)))
    return max(a, b)


def ceil_div(a: int, b: int) -> int:
    """The smallest whole number that is not below a / b, for b > 0."""
    return -(-a // b)


@lru_cache(_KEPT)
def aligned(value: SymInt, to: int) -> int:
    """The smallest multiple of a plain number that is not below the value."""
    return ceil_div(value, to) * to


def float_bits(value: float, dtype: str) -> int:
    """The fp32 pattern of a number that is rounded to a float dtype first; a SymInt gives one that does so later."""
    if isinstance(value, SymInt):
        return SymInt._call(f"float_bits({{0}}, {dtype!r})", value)
    try:
        if dtype == "fp32":
            return int.from_bytes(_FP32.pack(value), "little")
    except OverflowError:
        pass  # numpy makes it an infinity
    with np.errstate(over="ignore"):
        rounded = np.asarray(float(value)).astype(DTYPES[dtype].numpy).astype(np.float32)
    return int.from_bytes(_FP32.pack(float(rounded)), "little")


def compile_values(variables: Sequence[str], values: Sequence[int], name: str = "values") -> Function:
    """A function that gives `values`, some or all of them SymInts, for values of the variables, in their order."""
    names = {each: f"v{at}" for at, each in enumerate(variables)}
    lines = [f"def {name}({', '.join(names.values())}):"]
    for value in values:
        if isinstance(value, SymInt):
            _write_steps(value, names, lines)
    results = [value.text(names) if isinstance(value, SymInt) else repr(value) for value in values]
    lines.append(f"    return ({', '.join(results)}{',' if results else ''})")
    return _function("\n".join(lines), name)


@lru_cache(_KEPT)
def _function(text: str, name: str) -> Function:
    """The function `name` that a text defines; what kernels have in common is compiled once."""
    scope: dict[str, Any] = {"float_bits": float_bits}
    # The text is made of names, numbers and operators written here, never of a user's input.
    exec(text, scope)
    made: Function = scope.pop(name)  # else both would hold each other
    return made


def _write_steps(value: SymInt, names: dict[str, str], lines: list[str]) -> None:
    """A line for each quotient that has no name yet, after those that it needs."""
    for atom in value.atoms:
        if atom not in names and isinstance(atom, _Quotient):
            for each in atom.inputs:
                _write_steps(each, names, lines)
            names[atom] = f"t{len(lines)}"
            lines.append(f"    {names[atom]} = {atom.rule.format(*(f'({each.text(names)})' for each in atom.inputs))}")


def _made(terms: Polynomial) -> SymInt:
    made = int.__new__(SymInt, 0)
    made._terms = terms
    made._text = made._hash = None
    return made


def _terms_of(value: int) -> Polynomial:
    if isinstance(value, SymInt):
        return value._terms
    return {(): value} if value else {}


def _sum(a: Polynomial, b: Polynomial, factor: int) -> int:
    total = dict(a)
    for monomial, value in b.items():
        total[monomial] = total.get(monomial, 0) + factor * value
    return _simple(total)


def _simple(terms: Polynomial) -> int:
    """The value without terms of factor 0; a plain number if it depends on nothing."""
    kept = {monomial: factor for monomial, factor in terms.items() if factor}
    if not kept:
        return 0
    return kept[()] if len(kept) == 1 and () in kept else _made(kept)


def _exact_quotient(value: SymInt, by: int) -> int | None:
    """value // by without a division: by itself, or where every coefficient is a multiple of a plain number."""
    if isinstance(by, SymInt):
        if value._terms == by._terms:
            return 1
        return -1 if value == -by else None
    if by == 0 or any(factor % by for factor in value._terms.values()):
        return None
    return _made({each: factor // by for each, factor in value._terms.items()})
