"""What a term is in real numbers: a polynomial, in which tanh and the like are spelled with exp.

Two terms with one real form are the same function; how they round may differ. Forms are found by expanding products and
sums, so they serve for the few operations of a named function, not for whole graphs.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from functools import reduce

from npuvm.compiler.selection.terms import Apply, Leaf, Number, Term

__all__ = ["real_form"]

Monomial = tuple[tuple[Hashable, int], ...]
"""Atoms with their powers, sorted by their text."""

Polynomial = Mapping[Monomial, float]

_DIGITS = 6
"""Significant digits of a coefficient that count: those of constants that are written out."""

_MOST_POWER = 8


def real_form(term: Term) -> Hashable | None:
    """The form of a term over one tile: equal for terms that are equal in real numbers, as far as expanding tells.

    None for a term with what has no form, an immediate or a whole power of another sort.
    """
    try:
        return _key(_polynomial(term))
    except _NotRealError:
        return None


class _NotRealError(Exception):
    """The term has an operation without a form."""


def _polynomial(term: Term) -> Polynomial:
    match term:
        case Number(value=value):
            return _constant(float(value))
        case Leaf():
            return _atom("x")
        case Apply(op="cast", args=(inner,)):
            return _polynomial(inner)
        case Apply(op="pow", args=(base, Number(value=int() | float() as power))):
            return _power(_polynomial(base), power)
        case Apply(op=op, args=args):
            return _operation(op, [_polynomial(each) for each in args])
    raise _NotRealError


def _operation(op: str, args: list[Polynomial]) -> Polynomial:
    first, last = args[0], args[-1]
    match op:
        case "add":
            return _sum(first, last)
        case "sub":
            return _sum(first, _scaled(last, -1.0))
        case "neg":
            return _scaled(first, -1.0)
        case "mul":
            return _product(first, last)
        case "div":
            return _product(first, _inverse(last))
        case "tanh":  # 2 / (1 + exp(-2 x)) - 1
            falling = _sum(_constant(1.0), _atom(("exp", _key(_scaled(first, -2.0)))))
            return _sum(_scaled(_inverse(falling), 2.0), _constant(-1.0))
        case "max" | "min":
            return _atom((op, tuple(sorted(map(_key, args), key=repr))))
    return _atom((op, tuple(map(_key, args)))) if op != "exp" else _atom((op, _key(first)))


def _constant(value: float) -> Polynomial:
    return {(): value} if value else {}


def _atom(atom: Hashable) -> Polynomial:
    return {((atom, 1),): 1.0}


def _scaled(a: Polynomial, factor: float) -> Polynomial:
    return {monomial: factor * value for monomial, value in a.items()}


def _sum(a: Polynomial, b: Polynomial) -> Polynomial:
    total = dict(a)
    for monomial, value in b.items():
        total[monomial] = total.get(monomial, 0.0) + value
    return {monomial: value for monomial, value in total.items() if value}


def _product(a: Polynomial, b: Polynomial) -> Polynomial:
    total: Polynomial = {}
    for left, x in a.items():
        for right, y in b.items():
            total = _sum(total, {_joined(left, right): x * y})
    return total


def _joined(a: Monomial, b: Monomial) -> Monomial:
    powers = dict(a)
    for atom, power in b:
        powers[atom] = powers.get(atom, 0) + power
    return tuple(sorted(powers.items(), key=repr))


def _power(base: Polynomial, power: float) -> Polynomial:
    if power != int(power) or not 1 <= power <= _MOST_POWER:
        raise _NotRealError
    return reduce(_product, [base] * int(power))


def _inverse(a: Polynomial) -> Polynomial:
    if len(a) == 1 and () in a:
        return _constant(1.0 / a[()])
    return _atom(("inverse", _key(a)))


def _key(a: Polynomial) -> Hashable:
    return tuple(sorted(((monomial, f"{value:.{_DIGITS}g}") for monomial, value in a.items()), key=repr))
