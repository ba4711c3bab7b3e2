"""Integers that are not known yet: what a template is written with, before a shape gives its sizes.

A SymInt passes for an int in arithmetic and remembers how it was made. It refuses to be compared or tested, so code that writes
a template cannot look at a size; what it may not look at, it cannot specialise on. Two are equal when they are equal for all
values, as far as expanding products and sums tells.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np

from npuvm.compiler.types import DTYPES

__all__ = ["Function", "SymInt", "ceil_div", "compile_values", "float_bits"]

Monomial = tuple[str, ...]
"""Names of variables and quotients that are multiplied, sorted."""

Polynomial = Mapping[Monomial, int]

Function = Callable[..., tuple[int, ...]]
"""Values of expressions for values of variables."""


@dataclass(frozen=True, slots=True)
class _Step:
    """A value that a polynomial cannot express: `text` computes it, from `inputs`."""

    name: str
    text: str
    inputs: tuple[SymInt, ...]


class SymInt(int):
    """A polynomial with whole coefficients over variables and over quotients of other such polynomials."""

    _terms: Polynomial
    _steps: Mapping[str, _Step]
    _key: Hashable

    @staticmethod
    def variable(name: str) -> SymInt:
        """A value that is given later."""
        return SymInt._of({(name,): 1}, {})

    @staticmethod
    def _of(terms: Polynomial, steps: Mapping[str, _Step]) -> SymInt:
        made = int.__new__(SymInt, 0)
        made._terms = terms
        made._steps = steps
        made._key = frozenset(terms.items())
        return made

    @staticmethod
    def _from(value: int) -> SymInt:
        return value if isinstance(value, SymInt) else SymInt._of({(): value} if value else {}, {})

    @staticmethod
    def _call(template: str, *inputs: SymInt) -> SymInt:
        """A quotient or the like; the name of the value is its text, so that equal ones are one."""
        text = template.format(*(f"({each.text()})" for each in inputs))
        steps: dict[str, _Step] = {}
        for each in inputs:
            steps.update(each._steps)
        name = f"<{text}>"
        steps[name] = _Step(name, template, inputs)
        return SymInt._of({(name,): 1}, steps)

    @property
    def constant(self) -> int | None:
        """The value, if it does not depend on any variable."""
        if not self._terms:
            return 0
        return self._terms.get(()) if len(self._terms) == 1 else None

    def text(self, names: Mapping[str, str] | None = None) -> str:
        """The expression; `names` replaces those of variables and quotients."""
        parts = []
        for monomial, factor in sorted(self._terms.items()):
            written = [names[each] if names else each for each in monomial]
            if factor != 1 or not written:
                written.append(str(factor))
            parts.append(" * ".join(written))
        return " + ".join(parts) or "0"

    # Arithmetic.

    def __add__(self, other: int) -> int:
        return _simple(_sum(self, SymInt._from(other), 1))

    __radd__ = __add__

    def __sub__(self, other: int) -> int:
        return _simple(_sum(self, SymInt._from(other), -1))

    def __rsub__(self, other: int) -> int:
        return _simple(_sum(SymInt._from(other), self, -1))

    def __neg__(self) -> int:
        return _simple(_sum(SymInt._from(0), self, -1))

    def __mul__(self, other: int) -> int:
        right = SymInt._from(other)
        total: dict[Monomial, int] = {}
        for left, x in self._terms.items():
            for each, y in right._terms.items():
                joined = tuple(sorted(left + each))
                total[joined] = total.get(joined, 0) + x * y
        return _simple(_kept(total, self, right))

    __rmul__ = __mul__

    def __floordiv__(self, other: int) -> int:
        exact = _exact_quotient(self, other)
        return exact if exact is not None else SymInt._call("{0} // {1}", self, SymInt._from(other))

    def __rfloordiv__(self, other: int) -> int:
        return SymInt._call("{0} // {1}", SymInt._from(other), self)

    def __mod__(self, other: int) -> int:
        return self - self // other * other

    # Equality is structural; nothing else can be known.

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SymInt) and self._key == other._key

    def __ne__(self, other: object) -> bool:
        return not self == other

    def _refuse(self, *_: object) -> NoReturn:
        raise TypeError(f"a template cannot depend on the value of {self.text()}")

    __bool__ = __lt__ = __le__ = __gt__ = __ge__ = _refuse
    __index__ = __int__ = __float__ = _refuse
    __divmod__ = __rdivmod__ = __truediv__ = __rtruediv__ = __rmod__ = __pow__ = _refuse

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__


def ceil_div(a: int, b: int) -> int:
    """The smallest whole number that is not below a / b, for b > 0."""
    return -(-a // b)


def float_bits(value: float, dtype: str) -> int:
    """The fp32 pattern of a number that is rounded to a float dtype first; a SymInt gives one that does so later."""
    if isinstance(value, SymInt):
        return SymInt._call(f"float_bits({{0}}, {dtype!r})", value)
    with np.errstate(over="ignore"):
        rounded = np.asarray(float(value)).astype(DTYPES[dtype].numpy).astype(np.float32)
    bits: int = struct.unpack("<I", struct.pack("<f", float(rounded)))[0]
    return bits


def compile_values(variables: Sequence[str], values: Sequence[int], name: str = "values") -> Function:
    """A function that gives `values`, some or all of them SymInts, for values of the variables, in their order."""
    names = {each: f"v{at}" for at, each in enumerate(variables)}
    lines = [f"def {name}({', '.join(names.values())}):"]
    for step in _ordered(values):
        names[step.name] = f"t{len(lines)}"
        operands = [f"({each.text(names)})" for each in step.inputs]
        lines.append(f"    {names[step.name]} = {step.text.format(*operands)}")
    results = [value.text(names) if isinstance(value, SymInt) else repr(value) for value in values]
    lines.append(f"    return ({', '.join(results)}{',' if results else ''})")
    scope: dict[str, Any] = {"float_bits": float_bits}
    # The text is made of names, numbers and operators written here, never of a user's input.
    exec("\n".join(lines), scope)
    made: Function = scope[name]
    return made


def _ordered(values: Sequence[int]) -> Iterator[_Step]:
    """The steps that the values need, each once, after those that it needs."""
    done: set[str] = set()
    for value in values:
        if isinstance(value, SymInt):
            for step in value._steps.values():
                if step.name not in done:
                    done.add(step.name)
                    yield step


def _sum(a: SymInt, b: SymInt, factor: int) -> SymInt:
    total = dict(a._terms)
    for monomial, value in b._terms.items():
        total[monomial] = total.get(monomial, 0) + factor * value
    return _kept(total, a, b)


def _kept(terms: Mapping[Monomial, int], *sources: SymInt) -> SymInt:
    found = {monomial: factor for monomial, factor in terms.items() if factor}
    steps: dict[str, _Step] = {}
    for each in sources:
        steps.update(each._steps)
    return SymInt._of(found, steps)


def _simple(value: SymInt) -> int:
    known = value.constant
    return value if known is None else known


def _exact_quotient(value: SymInt, by: int) -> int | None:
    """value // by without a division, where every coefficient is a multiple of a plain number."""
    if isinstance(by, SymInt):
        return None
    if by != 0 and all(factor % by == 0 for factor in value._terms.values()):
        return _simple(SymInt._of({each: factor // by for each, factor in value._terms.items()}, value._steps))
    return None
