"""Symbolic shape inference of reshape: cancels common dims, derives unknown ones, records what must be checked."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.sums import Computed
from npuvm.compiler.graph.symbols import Check, Derived, Product, Ratio, cancel, product
from npuvm.compiler.graph.types import Dim, dims_text

__all__ = ["Reshaped", "infer_reshape", "known_derived"]


@dataclass(frozen=True, slots=True)
class Reshaped:
    """The target shape, and the symbol or equality that it introduces, if any."""

    shape: tuple[Dim, ...]
    derived: Derived | None = None
    check: Check | None = None


def infer_reshape(source: Sequence[Dim], target: Sequence[Dim], known: Collection[str]) -> Reshaped:
    """The shape of `reshape(source -> target)`.

    `target` may hold one -1, or one name that is not among `known` symbols; its size follows from the others.
    Raises CompileError when sizes cannot agree or more than one dim is unknown.
    """
    unknown = [i for i, dim in enumerate(target) if dim == -1 or (isinstance(dim, str) and dim not in known)]
    where = f"reshape [{dims_text(source)}] to [{dims_text(target)}]"
    if len(unknown) > 1:
        names = ", ".join(str(target[i]) for i in unknown)
        raise CompileError(f"{where}: {names} are all unknown; at most one dim may be -1 or a new name")
    rest = [dim for i, dim in enumerate(target) if i not in unknown]
    if any(isinstance(dim, int) and dim < 0 for dim in rest):
        raise CompileError(f"{where}: a dim is >= 0, or -1 once")
    numerator, denominator = cancel(product(source), product(rest))
    if not unknown:
        return Reshaped(tuple(target), check=_check(numerator, denominator, where))
    at = unknown[0]
    name = target[at] if isinstance(target[at], str) else _fresh(known)
    exact = denominator == Product() and numerator.dim() is not None and not isinstance(target[at], str)
    if exact:
        found = numerator.dim()
        assert found is not None
        return Reshaped((*target[:at], found, *target[at + 1 :]))
    if not numerator.symbols and not denominator.symbols and _indivisible(numerator.factor, denominator.factor):
        raise CompileError(f"{where}: {numerator} is not a multiple of {denominator}")
    derived = Derived(str(name), numerator, denominator)
    return Reshaped((*target[:at], Ratio(str(name), numerator, denominator), *target[at + 1 :]), derived=derived)


def _indivisible(top: int, bottom: int) -> bool:
    return top != 0 if bottom == 0 else top % bottom != 0


def _check(left: Product, right: Product, where: str) -> Check | None:
    if left == right:
        return None
    if not left.symbols and not right.symbols:
        raise CompileError(f"{where}: the sizes differ, {left} against {right} (common factors removed)")
    return Check(left, right)


def _fresh(known: Collection[str]) -> str:
    number = 0
    while f"_{number}" in known:
        number += 1
    return f"_{number}"


def known_derived(made: Reshaped, derived: Sequence[Derived | Computed]) -> Reshaped:
    """The same with the symbol among `derived` that has the value of the new one, where there is such a symbol."""
    new = made.derived
    assert new is not None
    for each in derived:
        if isinstance(each, Derived):
            same = (each.numerator, each.denominator) == (new.numerator, new.denominator)
        else:
            same = each.op == "sum" and each.args[0].terms == (new.numerator,) and new.denominator == Product()
        if same:
            name = Ratio(each.name, new.numerator, new.denominator)
            return Reshaped(tuple(name if dim == new.name else dim for dim in made.shape))
    return made
