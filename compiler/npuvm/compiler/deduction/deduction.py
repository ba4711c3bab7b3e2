"""Facts of symbols, gathered while the operators of a model are read.

A fact that changes what a symbol is (`K` is 768) raises `Deduced`: the model is read again, and all its operators see the fact,
those before the one that gave it too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import reduce
from math import gcd

from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.model import Fact, Guard
from npuvm.compiler.graph.sums import (
    Computed,
    Definitions,
    DimTable,
    Sum,
    collect,
    common_factor,
    operands,
    over,
    sum_of,
)
from npuvm.compiler.graph.symbols import Derived, Product
from npuvm.compiler.graph.types import Dim

__all__ = ["ANY_SIZE", "LARGEST_SIZE", "Contradiction", "Deduced", "Deduction", "Undecided", "whole_quotient"]

LARGEST_SIZE = 1 << 24
"""What a size is taken to be at most where the range of integers matters; a guard says so."""

ANY_SIZE = (1 << 31) - 1
"""What no size is above: the device counts elements of an axis in 31 bits."""

Interval = tuple[int, int]


class Deduced(Exception):
    """A symbol is something else than it was taken for; read the model again."""


class Contradiction(CompileError):
    """What operators need of sizes cannot all be."""


class Undecided(Exception):
    """Whether sizes fit is not known before the model runs, and cannot be expressed in its symbols."""


@dataclass(slots=True)
class _Assumption:
    """What was known before something was assumed of `key`."""

    key: str
    known: dict[str, Sum]
    ordered: int
    facts: int
    required: int
    guards: int


@dataclass(slots=True)
class Deduction:
    """Facts that outlive the readings of one model. `fixed` are symbols whose sizes are given.

    `derived` is the list of derived symbols that all readings share, so that a name means the same in each.
    `ordered` are sums that are assumed not to be below zero.
    `late` are symbols that are known only when a host operator has run; `late_names` gives them by what they were made for.
    """

    fixed: Mapping[str, int] = field(default_factory=dict)
    known: dict[str, Sum] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)
    guards: list[Guard] = field(default_factory=list)
    required: list[Guard] = field(default_factory=list)
    derived: Definitions = field(init=False)
    names: dict[str, None] = field(default_factory=dict)
    late: set[str] = field(default_factory=set)
    late_names: dict[str, str] = field(default_factory=dict)
    ordered: list[Sum] = field(default_factory=list)
    _units: set[str] = field(default_factory=set)
    _assumed: list[_Assumption] = field(default_factory=list)
    _refuted: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.derived = Definitions(self.order)

    @property
    def sizes(self) -> DimTable:
        """Arithmetic on sizes."""
        return DimTable(self.derived, self.names)

    # What is known.

    def symbol(self, name: str) -> Dim:
        """The dim that a symbol of an input, or of what a host operator makes, is."""
        self.names.setdefault(name)
        return self.resolve(name)

    def resolve(self, dim: Dim) -> Dim:
        """What a dim is, as far as is known."""
        if isinstance(dim, int) or not (self.known or self.fixed or self.ordered):
            return dim
        value = sum_of(dim)
        found = self.resolved(value)
        return dim if found == value else self.sizes.dim(found)

    def resolved(self, value: Sum) -> Sum:
        """A sum with everything put in that is known of its symbols."""
        if all(self._is_plain(symbol) for term in value.terms for symbol in term.symbols):
            return value
        total = Sum()
        for term in value.terms:
            part = sum_of(term.factor) if term.factor >= 0 else Sum() - sum_of(-term.factor)
            for symbol in term.symbols:
                part = part.multiplied(self._meaning(symbol))
            total += part
        return total

    def _is_plain(self, symbol: str) -> bool:
        """Whether there is nothing to put in for a symbol."""
        if symbol in self.known or symbol in self.fixed:
            return False
        return symbol in self._units or self.derived.find(symbol) is None

    def _meaning(self, symbol: str) -> Sum:
        if symbol in self.fixed:
            return sum_of(self.fixed[symbol])
        if symbol in self.known:
            return self.resolved(self.known[symbol])
        rule = self.definition(symbol)
        if rule is None or symbol in self._units:
            return Sum((Product(1, (symbol,)),))
        if isinstance(rule, Computed):
            args = tuple(self.resolved(each) for each in rule.args)
            if rule.op == "sum":
                return args[0]
            if rule.op == "min":
                return self.sizes.least(*args)
            if args == rule.args:
                return Sum((Product(1, (symbol,)),))
            divisor = args[1].constant()
            assert divisor is not None
            return self.sizes.floor_div(args[0], divisor)
        return self._quotient(symbol, rule)

    def _quotient(self, symbol: str, rule: Derived) -> Sum:
        top, bottom = (self.resolved(Sum((each,))) for each in (rule.numerator, rule.denominator))
        if (top.terms, bottom.terms) == ((rule.numerator,), (rule.denominator,)):
            return Sum((Product(1, (symbol,)),))
        found = whole_quotient(top, bottom)
        if found is None and len(top.terms) == len(bottom.terms) == 1:
            return sum_of(self.sizes.quotient(top.terms[0], bottom.terms[0]))
        if found is None:
            raise Undecided(f"{top} elements in parts of {bottom}")
        return found

    def definition(self, symbol: str) -> Derived | Computed | None:
        """How a symbol follows from others, if it does."""
        return self.derived.find(symbol)

    def symbols_of(self, value: Sum) -> set[str]:
        """All symbols in a sum, and those that they follow from."""
        found = value.symbols()
        for symbol in tuple(found):
            rule = self.definition(symbol)
            if rule is not None:
                found |= self.symbols_of(Sum(tuple(Product(1, (each,)) for each in operands(rule))))
        return found

    def is_late(self, value: Sum) -> bool:
        """Whether a sum follows from what a host operator makes."""
        return bool(self.late) and not self.late.isdisjoint(self.symbols_of(value))

    def interval(self, value: Sum, most: int = LARGEST_SIZE) -> Interval:
        """The least and the largest value of a sum, sizes taken to be `most` at most."""
        least = largest = 0
        for term in value.terms:
            low, high = 1, 1
            for symbol in term.symbols:
                a, b = self._range(symbol, most)
                low, high = low * a, high * b
            ends = low * term.factor, high * term.factor
            least, largest = least + min(ends), largest + max(ends)
        return least, largest

    def _range(self, symbol: str, most: int) -> Interval:
        rule = self.definition(symbol)
        if rule is None:
            return 0, most
        if isinstance(rule, Derived):
            high = self.interval(Sum((rule.numerator,)), most)[1]
            return 0, high // max(rule.denominator.factor, 1)
        ends = [self.interval(each, most) for each in rule.args]
        if rule.op == "min":
            return max(min(ends[0][0], ends[1][0]), 0), min(ends[0][1], ends[1][1])
        divisor = 1 if rule.op == "sum" else max(ends[1][0], 1)
        return max(ends[0][0] // divisor, 0), max(ends[0][1] // divisor, 0)

    def order(self, a: Sum, b: Sum) -> bool:
        """Whether one sum is known never to be above another."""
        number = b.constant()
        if number is not None and number >= ANY_SIZE:
            return True
        gap = self.resolved(b) - self.resolved(a)
        if any(self.interval(gap - least, ANY_SIZE)[0] >= 0 for least in (Sum(), *self.ordered)):
            return True
        below, above = self._smallest_of(a), self._smallest_of(b)
        return any(self.order(each, b) for each in below) or (
            bool(above) and all(self.order(a, each) for each in above)
        )

    def _smallest_of(self, value: Sum) -> tuple[Sum, ...]:
        """The sums of which a sum is the smallest, if it is."""
        rule = None
        if len(value.terms) == 1 and value.terms[0].factor == 1 and len(value.terms[0].symbols) == 1:
            rule = self.definition(value.terms[0].symbols[0])
        return rule.args if isinstance(rule, Computed) and rule.op == "min" else ()

    # What operators need.

    def equal(self, a: Dim, b: Dim, origin: str) -> Dim:
        """Two dims that an operator needs to be equal. Contradiction when they can't be, Deduced when that was not known.

        Undecided where it cannot be expressed by giving one symbol another meaning.
        """
        self._same(self._sum(a), self._sum(b), origin, self.required)
        return a

    def same_product(self, a: Sequence[Dim], b: Sequence[Dim], origin: str) -> None:
        """Dims whose products an operator needs to be equal; what does not follow is checked on each shape."""
        left, right = (reduce(Sum.multiplied, (self._sum(dim) for dim in each), sum_of(1)) for each in (a, b))
        with suppress(Undecided):
            self._same(left, right, origin, self.required)

    def broadcast(self, a: Dim, b: Dim, origin: str) -> Dim:
        """The dim that two become together. What is assumed for that becomes a guard."""
        if a == b or b == 1:
            return a
        left, right = self._sum(a), self._sum(b)
        if left == right or right.constant() == 1:
            return a
        if left.constant() == 1:
            return b
        if None not in (left.constant(), right.constant()):
            raise Contradiction(f"sizes {a} and {b} cannot be broadcast to each other", origin)
        several = all(self.interval(each)[0] > 1 for each in (left, right))
        if several:
            self._same(left, right, origin, self.required)
            return a
        if self.is_late(left) or self.is_late(right):
            raise Undecided(f"whether {left} or {right} is 1 follows from data")
        key = f"{left} == {right}"
        if key in self._refuted:
            one = left if left.constant() is None else right
            self._assume(f"{one} == 1", one, sum_of(1), origin)
        self._assume(key, left, right, origin)
        return a

    def divisible(self, value: Sum, by: Sum, origin: str) -> None:
        """Require that a sum is a multiple of another. Deduced where a symbol becomes a multiple of a number thereby."""
        number = by.constant()
        if number and all(term.factor % number == 0 for term in value.terms):
            return
        found = None if number is None else self._part(value, number)
        if found is None:
            guard = Guard(value, "%", by, origin)
            if all(str(each) != str(guard) for each in self.required):
                self.required.append(guard)
        else:
            symbol, number, meaning = found
            self.required.append(Guard(sum_of(symbol), "%", sum_of(number), origin))
            self.facts.append(Fact(f"{symbol} % {number} == 0", origin))
            self.known[symbol] = meaning
            raise Deduced

    def _part(self, value: Sum, by: int) -> tuple[str, int, Sum] | None:
        """A symbol, what it must be a multiple of so that a sum is one of `by`, and that many times a new symbol."""
        rest = [term for term in value.terms if term.factor % by]
        if len(rest) != 1 or len(rest[0].symbols) != 1:
            return None
        (symbol,) = rest[0].symbols
        if symbol in self.known or (self.definition(symbol) is not None and symbol not in self._units):
            return None
        number = by // gcd(by, rest[0].factor)
        unit = self.sizes.quotient(Product(1, (symbol,)), Product(number))
        assert isinstance(unit, str)
        self._units.add(str(unit))
        return symbol, number, Sum((Product(number, (str(unit),)),))

    def at_most(self, value: Sum, most: int, origin: str) -> None:
        """Assume that a sum is no more than a number."""
        guard = Guard(value, "<=", sum_of(most), origin)
        if value.constant() is None and all(str(each) != str(guard) for each in self.guards):
            self.guards.append(guard)

    def has_elements(self, dim: Dim, origin: str, least: int = 1) -> None:
        """Assume that a dim is at least a number."""
        size = self._sum(dim)
        guard = Guard(sum_of(least), "<=", size, origin)
        known = self.interval(size)[0] >= least
        if not known and all(str(each) != str(guard) for each in self.guards):
            self.guards.append(guard)

    def _sum(self, dim: Dim) -> Sum:
        return self.resolved(self.sizes.of(dim))

    def _assume(self, key: str, left: Sum, right: Sum, origin: str) -> None:
        self._remember(key)
        self._same(left, right, origin, self.guards)

    def _remember(self, key: str) -> None:
        counts = (len(each) for each in (self.ordered, self.facts, self.required, self.guards))
        self._assumed.append(_Assumption(key, dict(self.known), *counts))

    def retract(self) -> bool:
        """Whether there was an assumption to take back, the last one, and all that was deduced since."""
        if not self._assumed:
            return False
        last = self._assumed.pop()
        self.known = last.known
        del (
            self.ordered[last.ordered :],
            self.facts[last.facts :],
            self.required[last.required :],
            self.guards[last.guards :],
        )
        if last.key in self._refuted:
            return self.retract()
        self._refuted.add(last.key)
        return True

    def _same(self, left: Sum, right: Sum, origin: str, kept: list[Guard]) -> None:
        """Make two sums equal: Deduced once a symbol has got another meaning; which guards that is kept in."""
        if left == right:
            return
        ends = self.interval(left, ANY_SIZE), self.interval(right, ANY_SIZE)
        if ends[0][1] < ends[1][0] or ends[1][1] < ends[0][0]:
            raise Contradiction(f"sizes {left} and {right} must be equal", origin)
        difference = left - right
        shared = common_factor(difference)
        difference = collect(over(term, shared) for term in difference.terms)
        if shared.symbols and kept is self.required:  # of no elements anything holds
            self._remember(f"{difference} == 0")
            kept = self.guards
        elif kept is self.required and self._rests_on_guards(difference):
            kept = self.guards
        found = self._solved(difference)
        if found is None:
            if not self.is_late(difference):
                self._assume_order(difference, origin)
                self._assume_whole(difference, origin)
            raise Undecided(f"that {left} is {right} does not follow before the model runs")
        name, meaning = found
        constant = meaning.constant()
        if constant is not None and constant < 0:
            if shared.symbols:
                raise Undecided(f"that {left} is {right} holds for no elements only")
            raise Contradiction(f"sizes {left} and {right} must be equal, {name} would be {constant}", origin)
        text = f"{name} == {meaning}"
        self.facts.append(Fact(text if kept is self.required else f"{text} (assumed)", origin))
        if name not in self.late:
            kept.append(Guard(sum_of(name), "==", meaning, origin))
        self.known[name] = meaning
        raise Deduced

    def _rests_on_guards(self, value: Sum) -> bool:
        """Whether a sum has symbols of which something was assumed: what is required of it is not, where that does not hold."""
        symbols = self.symbols_of(value)
        for guard in self.guards:
            ranged = guard.relation == "<=" and (guard.left.constant(), guard.right.constant()) != (None, None)
            if not ranged and not symbols.isdisjoint(self.symbols_of(guard.left) | self.symbols_of(guard.right)):
                return True
        return False

    def _solved(self, difference: Sum) -> tuple[str, Sum] | None:
        """A symbol and what it is where a sum is 0: late ones first, then where nothing is taken away, then the last ones."""
        order = list(self.names)
        found: list[tuple[tuple[bool, bool, int], str, Sum]] = []
        for term in difference.terms:
            if len(term.symbols) != 1 or abs(term.factor) != 1:
                continue
            (name,) = term.symbols
            free = name in self.names or name in self._units
            rest = Sum(tuple(each for each in difference.terms if each != term))
            meaning = rest.scaled(-term.factor)
            depends = name in self.symbols_of(rest)
            if not free or depends or (name not in self.late and self.is_late(rest)):
                continue
            place = order.index(name) if name in self.names else -1
            found.append(((name in self.late, meaning.never_negative(), place), name, meaning))
        return max(found, key=lambda each: each[0])[1:] if found else None

    def _assume_order(self, difference: Sum, origin: str) -> None:
        """Assume of the smaller of two which one it is, where a sum is 0 then."""
        for symbol in sorted(difference.symbols()):
            first, second = self._smallest_of(sum_of(symbol)) or (Sum(), Sum())
            for small, large in sorted(
                ((first, second), (second, first)), key=lambda each: each[0].constant() is not None
            ):
                key = f"{small} <= {large}"
                if small == large or key in self._refuted:
                    continue
                self.ordered.append(large - small)
                solved = not self.resolved(difference).terms
                self.ordered.pop()
                if solved:
                    self._remember(key)
                    self.ordered.append(large - small)
                    self.guards.append(Guard(small, "<=", large, origin))
                    self.facts.append(Fact(f"{key} (assumed)", origin))
                    raise Deduced

    def _assume_whole(self, difference: Sum, origin: str) -> None:
        """Assume that a size is a multiple of what it is divided by, where a sum is 0 then."""
        for symbol in sorted(difference.symbols()):
            rule = self.definition(symbol)
            number = rule.args[1].constant() if isinstance(rule, Computed) and rule.op == "floor_div" else None
            if number is None or not isinstance(rule, Computed):
                continue
            found = self._part(Sum(tuple(term for term in rule.args[0].terms if term.symbols)), number)
            if found is None:
                continue
            name, factor, meaning = found
            guard = Guard(sum_of(name), "%", sum_of(factor), origin)
            self.known[name] = meaning
            solved = not self.resolved(difference).terms
            del self.known[name]
            if solved and str(guard) not in self._refuted:
                self._remember(str(guard))
                self.known[name] = meaning
                self.guards.append(guard)
                self.facts.append(Fact(f"{guard} (assumed)", origin))
                raise Deduced


def whole_quotient(top: Sum, bottom: Sum) -> Sum | None:
    """A sum over another where each of its terms is a multiple of it; None where one is not."""
    if top == bottom:
        return sum_of(1)
    if len(bottom.terms) != 1:
        return None
    parts = [_term_over(term, bottom.terms[0]) for term in top.terms]
    return None if None in parts else collect(each for each in parts if each is not None)


def _term_over(term: Product, divisor: Product) -> Product | None:
    """A product over another without a rest, if it is one."""
    symbols = list(term.symbols)
    for symbol in divisor.symbols:
        if symbol not in symbols:
            return None
        symbols.remove(symbol)
    if divisor.factor == 0 or term.factor % divisor.factor:
        return None
    return Product(term.factor // divisor.factor, tuple(symbols))
