"""Facts of symbols, gathered while the operators of a model are read.

A fact that changes what a symbol is (`K` is 768) raises `Deduced`: the model is read again, and all its operators see the fact,
those before the one that gave it too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import gcd

from npuvm.compiler.errors import CompileError
from npuvm.compiler.model import Fact, Guard
from npuvm.compiler.sums import Computed, DimTable, Sum, fresh_name, operands, sum_of
from npuvm.compiler.symbols import Derived, Product
from npuvm.compiler.types import Dim

__all__ = ["LARGEST_SIZE", "Contradiction", "Deduced", "Deduction", "Undecided"]

LARGEST_SIZE = 1 << 24
"""What a size is taken to be at most where the range of integers matters; a guard says so."""

_ANY = 1 << 62

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
    facts: int
    required: int
    guards: int


@dataclass(slots=True)
class Deduction:
    """Facts that outlive the readings of one model. `fixed` are symbols whose sizes are given.

    `derived` is the list of derived symbols that all readings share, so that a name means the same in each.
    `late` are symbols that are known only when a host operator has run; `late_names` gives them by what they were made for.
    """

    fixed: Mapping[str, int] = field(default_factory=dict)
    known: dict[str, Sum] = field(default_factory=dict)
    facts: list[Fact] = field(default_factory=list)
    guards: list[Guard] = field(default_factory=list)
    required: list[Guard] = field(default_factory=list)
    derived: list[Derived | Computed] = field(default_factory=list)
    names: dict[str, None] = field(default_factory=dict)
    late: set[str] = field(default_factory=set)
    late_names: dict[str, str] = field(default_factory=dict)
    _units: set[str] = field(default_factory=set)
    _assumed: list[_Assumption] = field(default_factory=list)
    _refuted: set[str] = field(default_factory=set)

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
        if isinstance(dim, int) or not (self.known or self.fixed):
            return dim
        value = sum_of(dim)
        found = self.resolved(value)
        return dim if found == value else self.sizes.dim(found)

    def resolved(self, value: Sum) -> Sum:
        """A sum with everything put in that is known of its symbols."""
        total = Sum()
        for term in value.terms:
            part = sum_of(term.factor) if term.factor >= 0 else Sum() - sum_of(-term.factor)
            for symbol in term.symbols:
                part = part.multiplied(self._meaning(symbol))
            total += part
        return total

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
            if args == rule.args:
                return Sum((Product(1, (symbol,)),))
            if rule.op == "min":
                return self.sizes.least(*args)
            divisor = args[1].constant()
            assert divisor is not None
            return self.sizes.floor_div(args[0], divisor)
        return self._quotient(symbol, rule)

    def _quotient(self, symbol: str, rule: Derived) -> Sum:
        top, bottom = (self.resolved(Sum((each,))) for each in (rule.numerator, rule.denominator))
        if (top.terms, bottom.terms) == ((rule.numerator,), (rule.denominator,)):
            return Sum((Product(1, (symbol,)),))
        found = self.exact(top, bottom)
        if found is None:
            raise Undecided(f"{top} elements in parts of {bottom}")
        return found

    def exact(self, top: Sum, bottom: Sum) -> Sum | None:
        """A sum over another, where the rest is known to be 0 or is required to be; None where it has no form."""
        if len(bottom.terms) != 1:
            return Sum((Product(1),)) if top == bottom else None
        (divisor,) = bottom.terms
        parts = [_part(term, divisor) for term in top.terms]
        if None not in parts:
            return Sum(tuple(each for each in parts if each is not None))
        if len(top.terms) > 1:
            return None
        return sum_of(self.sizes.quotient(top.terms[0], divisor))

    def definition(self, symbol: str) -> Derived | Computed | None:
        """How a symbol follows from others, if it does."""
        return next((each for each in self.derived if each.name == symbol), None)

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

    # What operators need.

    def equal(self, a: Dim, b: Dim, origin: str) -> Dim:
        """Two dims that an operator needs to be equal. Contradiction when they can't be, Deduced when that was not known.

        Undecided where it cannot be expressed by giving one symbol another meaning.
        """
        self._same(self._sum(a), self._sum(b), origin, self.required)
        return a

    def broadcast(self, a: Dim, b: Dim, origin: str) -> Dim:
        """The dim that two become together. What is assumed for that becomes a guard."""
        if a == b or b == 1:
            return a
        if a == 1:
            return b
        left, right = self._sum(a), self._sum(b)
        if left == right:
            return a
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

    def divisible(self, value: Sum, by: int, origin: str, assumed: bool = False) -> None:
        """Deduced where a symbol becomes a multiple of a number so that a sum is a multiple of `by`; nothing where none can."""
        rest = [term for term in value.terms if term.factor % by]
        if len(rest) != 1 or len(rest[0].symbols) != 1 or rest[0].symbols[0] in self.fixed:
            return
        (symbol,) = rest[0].symbols
        number = by // gcd(by, rest[0].factor)
        rule = self.definition(symbol)
        if (rule is not None and symbol not in self._units) or symbol in self.known:
            return
        unit = fresh_name({*self.names, *(each.name for each in self.derived)})
        self.derived.append(Derived(unit, Product(1, (symbol,)), Product(number)))
        self._units.add(unit)
        guard = Guard(sum_of(symbol), "%", sum_of(number), origin)
        if assumed:
            self._remember(str(guard))
        (self.guards if assumed else self.required).append(guard)
        self.facts.append(Fact(f"{symbol} % {number} == 0", origin))
        self.known[symbol] = sum_of(unit).scaled(number)
        raise Deduced

    def at_most(self, value: Sum, most: int, origin: str) -> None:
        """Assume that a sum is no more than a number."""
        guard = Guard(value, "<=", sum_of(most), origin)
        if value.constant() is None and all(str(each) != str(guard) for each in self.guards):
            self.guards.append(guard)

    def _sum(self, dim: Dim) -> Sum:
        return self.resolved(self.sizes.of(dim))

    def _assume(self, key: str, left: Sum, right: Sum, origin: str) -> None:
        self._remember(key)
        self._same(left, right, origin, self.guards)

    def _remember(self, key: str) -> None:
        self._assumed.append(_Assumption(key, dict(self.known), len(self.facts), len(self.required), len(self.guards)))

    def retract(self) -> bool:
        """Whether there was an assumption to take back, the last one, and all that was deduced since."""
        if not self._assumed:
            return False
        last = self._assumed.pop()
        self.known = last.known
        del self.facts[last.facts :], self.required[last.required :], self.guards[last.guards :]
        if last.key in self._refuted:
            return self.retract()
        self._refuted.add(last.key)
        return True

    def _same(self, left: Sum, right: Sum, origin: str, kept: list[Guard]) -> None:
        """Make two sums equal: Deduced once a symbol has got another meaning; which guards that is kept in."""
        if left == right:
            return
        ends = self.interval(left, _ANY), self.interval(right, _ANY)
        if ends[0][1] < ends[1][0] or ends[1][1] < ends[0][0]:
            raise Contradiction(f"sizes {left} and {right} must be equal", origin)
        difference = left - right
        shared = gcd(*(term.factor for term in difference.terms))
        difference = Sum(tuple(Product(term.factor // shared, term.symbols) for term in difference.terms))
        found = self._solved(difference)
        if found is None:
            self._even(difference, origin)
            raise Undecided(f"that {left} is {right} does not follow before the model runs")
        name, meaning = found
        constant = meaning.constant()
        if constant is not None and constant < 0:
            raise Contradiction(f"sizes {left} and {right} must be equal, {name} would be {constant}", origin)
        text = f"{name} == {meaning}"
        self.facts.append(Fact(text if kept is self.required else f"{text} (assumed)", origin))
        if name not in self.late:
            kept.append(Guard(sum_of(name), "==", meaning, origin))
        self.known[name] = meaning
        raise Deduced

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

    def _even(self, difference: Sum, origin: str) -> None:
        """Sizes of halves and their doubles are equal where the whole is even; that is assumed."""
        for symbol in difference.symbols():
            rule = self.definition(symbol)
            if isinstance(rule, Computed) and rule.op == "floor_div":
                number = rule.args[1].constant()
                varying = Sum(tuple(term for term in rule.args[0].terms if term.symbols))
                if number is not None and not self.is_late(varying):
                    self.divisible(varying, number, origin, assumed=True)


def _part(term: Product, divisor: Product) -> Product | None:
    """A product over another without a rest, if it is one."""
    symbols = list(term.symbols)
    for symbol in divisor.symbols:
        if symbol not in symbols:
            return None
        symbols.remove(symbol)
    if divisor.factor == 0 or term.factor % divisor.factor:
        return None
    return Product(term.factor // divisor.factor, tuple(symbols))
