"""Facts of symbols, gathered while the operators of a model are read.

A fact that changes what a symbol is (`K` is 768) raises `Deduced`: the model is read again, and all its operators see the fact,
those before the one that gave it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from npuvm.compiler.errors import CompileError
from npuvm.compiler.model import Fact, Guard
from npuvm.compiler.sums import Sum, sum_of
from npuvm.compiler.types import Dim

__all__ = ["Deduced", "Deduction"]


class Deduced(Exception):
    """A symbol is something else than it was taken for; read the model again."""


@dataclass(slots=True)
class Deduction:
    """Facts that outlive the readings of one model. `fixed` are symbols whose sizes are given."""

    fixed: Mapping[str, int] = field(default_factory=dict)
    known: dict[str, Dim] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)
    guards: list[Guard] = field(default_factory=list)

    def resolve(self, dim: Dim) -> Dim:
        """What a dim is, as far as is known."""
        while isinstance(dim, str) and (dim in self.fixed or dim in self.known):
            dim = self.fixed[dim] if dim in self.fixed else self.known[dim]
        return dim

    def equal(self, a: Dim, b: Dim, origin: str) -> Dim:
        """Two dims that an operator needs to be equal. CompileError when they can't be, Deduced when that was not known."""
        if a == b:
            return a
        if isinstance(a, int) and isinstance(b, int):
            raise CompileError(f"sizes {a} and {b} must be equal", origin)
        name, other = (a, b) if isinstance(a, str) else (b, a)
        assert isinstance(name, str)
        self.known[name] = other
        self.facts.append(Fact(f"{name} == {other}", origin))
        raise Deduced

    def broadcast(self, a: Dim, b: Dim, origin: str) -> Dim:
        """The dim that two become together. What is assumed for that becomes a guard."""
        if a == b or b == 1:
            return a
        if a == 1:
            return b
        name, other = (a, b) if isinstance(a, str) else (b, a)
        if isinstance(name, str):
            self.guards.append(Guard(_sum(name), "==", _sum(other), origin))
        return self.equal(a, b, origin)


def _sum(dim: Dim) -> Sum:
    return sum_of(dim)
