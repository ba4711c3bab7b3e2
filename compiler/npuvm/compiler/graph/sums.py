"""Sums of products of symbols, and symbols defined by them: sizes of slices, paddings and windows, and element offsets."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import gcd

from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.symbols import Derived, Product, Ratio, cancel, product
from npuvm.compiler.graph.types import Dim, parse_dims

__all__ = [
    "Computed", "Definitions", "DimTable", "Sum", "collect", "common_factor", "fresh_name", "operands", "over", "parse_sum",
    "sum_of", "times",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Sum:
    """Products with different symbols, sorted by them; none has factor 0. Without terms it is 0."""

    terms: tuple[Product, ...] = ()

    def value(self, binding: Mapping[str, int]) -> int:
        """The sum for concrete values of its symbols."""
        return sum(term.value(binding) for term in self.terms)

    def constant(self) -> int | None:
        """The number that this is, if there are no symbols in it."""
        if not self.terms:
            return 0
        return self.terms[0].factor if len(self.terms) == 1 and not self.terms[0].symbols else None

    def never_negative(self) -> bool:
        """Whether no term can be below zero; symbols are sizes."""
        return all(term.factor > 0 for term in self.terms)

    def __add__(self, other: Sum) -> Sum:
        return collect((*self.terms, *other.terms))

    def __sub__(self, other: Sum) -> Sum:
        return self + other.scaled(-1)

    def scaled(self, factor: int) -> Sum:
        """This sum `factor` times."""
        return collect(Product(term.factor * factor, term.symbols) for term in self.terms)

    def times(self, other: Product) -> Sum:
        """Each term times a product."""
        return collect(times(term, other) for term in self.terms)

    def multiplied(self, other: Sum) -> Sum:
        """Each term times each term."""
        return collect(times(a, b) for a in self.terms for b in other.terms)

    def symbols(self) -> set[str]:
        """Names in it."""
        return {symbol for term in self.terms for symbol in term.symbols}

    def __str__(self) -> str:
        return " + ".join(str(term) for term in self.terms) or "0"


def times(a: Product, b: Product) -> Product:
    """The product of two products in normal form."""
    return Product(a.factor * b.factor, tuple(sorted((*a.symbols, *b.symbols))))


def sum_of(*dims: Dim) -> Sum:
    """The sum of dims."""
    return collect(product((dim,)) for dim in dims)


def collect(terms: Iterable[Product]) -> Sum:
    """The sum of products, those with the same symbols added up."""
    factors: dict[tuple[str, ...], int] = {}
    for term in terms:
        factors[term.symbols] = factors.get(term.symbols, 0) + term.factor
    return Sum(tuple(Product(factor, symbols) for symbols, factor in sorted(factors.items()) if factor))


def parse_sum(text: str) -> Sum:
    """A sum as it prints, `2 * M * N + K + -3`, or written with minus signs. Raises CompileError."""
    plain = re.sub(r"\+\s*-", "-", text).replace("-", "+-").strip().removeprefix("+")
    return collect(_parse_product(part.strip(), text) for part in plain.split("+"))


def _parse_product(part: str, text: str) -> Product:
    negative = part.startswith("-")
    factors = [dim for each in part.removeprefix("-").split("*") for dim in parse_dims(each) or ("",)]
    if "" in factors:
        raise CompileError(f"'{text}' is no sum of products of numbers and names, such as 2 * M * N + K - 3")
    found = product(factors)
    return Product(-found.factor, found.symbols) if negative else found


def _common(a: Sum, b: Sum) -> Sum:
    """What can be taken from both so that no factor is below zero and each product stays in one of them."""
    factors = [{term.symbols: term.factor for term in each.terms} for each in (a, b)]
    return collect(
        Product(min(each.get(symbols, 0) for each in factors), symbols) for symbols in {**factors[0], **factors[1]}
    )


_RULES: Mapping[str, Callable[[Sequence[int]], int]] = {
    "sum": lambda values: values[0],
    "min": min,
    "floor_div": lambda values: values[0] // values[1],
}


@dataclass(frozen=True, slots=True)
class Computed:
    """A symbol defined by sums: `op` is sum (of one), min or floor_div."""

    name: str
    op: str
    args: tuple[Sum, ...]

    def __post_init__(self) -> None:
        if self.op not in _RULES:
            raise CompileError(f"unknown rule '{self.op}' of symbol '{self.name}'; allowed: {', '.join(_RULES)}")
        count = {"sum": 1}.get(self.op, 2)
        if len(self.args) != count:
            raise CompileError(f"symbol '{self.name}': {self.op} takes {count} sums, not {len(self.args)}")

    def __str__(self) -> str:
        return f"{self.name} = {self.op}({', '.join(map(str, self.args))})"

    def value(self, binding: Mapping[str, int]) -> int:
        """The size for concrete values of its symbols. Raises CompileError when it is below zero."""
        result = _RULES[self.op]([each.value(binding) for each in self.args])
        if result < 0:
            raise CompileError(f"{self}: {result} is no size; a size is >= 0")
        return result


class Definitions(list[Derived | Computed]):
    """Derived symbols of a graph of whose sizes more is known: `order` tells whether one sum is never above another."""

    def __init__(self, order: Callable[[Sum, Sum], bool]) -> None:
        super().__init__()
        self.order = order
        self._by_name: dict[str, Derived | Computed] = {}
        self._by_rule: dict[tuple[object, ...], str] = {}

    def find(self, name: str) -> Derived | Computed | None:
        """How a symbol follows from others, if it does."""
        self._index()
        return self._by_name.get(name)

    def known(self, *rule: object) -> str | None:
        """The symbol that a rule defines: of a `Computed` its op and args, of a `Derived` what is divided by what."""
        self._index()
        return self._by_rule.get(rule)

    def _index(self) -> None:
        for each in self[len(self._by_name) :]:
            self._by_name[each.name] = each
            rule = (each.op, each.args) if isinstance(each, Computed) else (each.numerator, each.denominator)
            self._by_rule.setdefault(rule, each.name)


class DimTable:
    """Arithmetic on the dims of a graph: what is not a number or a known symbol becomes a new one in `derived`.

    `derived` is the graph's own list and grows; `names` are the symbols of its parameters.
    """

    def __init__(self, derived: list[Derived | Computed], names: Iterable[str]) -> None:
        self._derived = derived
        self._names = tuple(names)
        self._order = derived.order if isinstance(derived, Definitions) else None

    def of(self, dim: Dim) -> Sum:
        """A dim as a sum, where symbols that are sums are replaced by them."""
        rule = self._rule_of(dim) if isinstance(dim, str) else None
        if isinstance(rule, Computed) and rule.op == "sum":
            return self._expanded(rule.args[0])
        if isinstance(rule, Derived) and rule.denominator == Product():
            return self._expanded(Sum((rule.numerator,)))
        return sum_of(dim)

    def _rule_of(self, name: str) -> Derived | Computed | None:
        if isinstance(self._derived, Definitions):
            return self._derived.find(name)
        return next((each for each in self._derived if each.name == name), None)

    def _expanded(self, value: Sum) -> Sum:
        """A sum without symbols that are sums."""
        total = Sum()
        for term in value.terms:
            part = Sum((Product(term.factor),))
            for symbol in term.symbols:
                part = part.multiplied(self.of(symbol))
            total += part
        return total

    def dim(self, value: Sum) -> Dim:
        """The dim that a sum is. Raises CompileError when it is a number below zero."""
        constant = value.constant()
        if constant is not None:
            if constant < 0:
                raise CompileError(f"{constant} is no size; a size is >= 0")
            return constant
        if len(value.terms) == 1 and (single := value.terms[0].dim()) is not None:
            return single
        shared = common_factor(value)
        if len(value.terms) > 1 and shared.symbols:
            inner = self.dim(collect(over(term, shared) for term in value.terms))
            value = sum_of(inner).times(shared)
        name = self._symbol("sum", value)
        return name if len(value.terms) > 1 or value.terms[0].factor < 0 else Ratio(name, value.terms[0])

    def quotient(self, numerator: Product, denominator: Product) -> Dim:
        """The dim that a product over a product is, without common factors; both are not zero."""
        top, bottom = cancel(numerator, denominator)
        if bottom == Product():
            return self.dim(Sum((top,)))
        name = self._name_of(top, bottom)
        if name is None:
            name = fresh_name({*self._names, *(each.name for each in self._derived)})
            self._derived.append(Derived(name, top, bottom))
        return Ratio(name, top, bottom)

    def _name_of(self, *rule: object) -> str | None:
        """The symbol that a rule defines already."""
        if isinstance(self._derived, Definitions):
            return self._derived.known(*rule)
        for each in self._derived:
            known = (each.op, each.args) if isinstance(each, Computed) else (each.numerator, each.denominator)
            if known == rule:
                return each.name
        return None

    def least(self, a: Sum, b: Sum) -> Sum:
        """The smaller of two."""
        if self._order is not None:
            for one, other in ((a, b), (b, a)):
                if self._order(one, other):
                    return one
        common = _common(a, b)
        a, b = sorted((a - common, b - common), key=str)
        if not a.terms or not b.terms:
            return common
        return common + sum_of(self._symbol("min", a, b))

    def most(self, a: Sum, b: Sum) -> Sum:
        """The larger of two."""
        return a + b - self.least(a, b)

    def floor_div(self, value: Sum, divisor: int) -> Sum:
        """A sum divided by a positive number, rounded down."""
        whole = Sum(tuple(Product(t.factor // divisor, t.symbols) for t in value.terms if t.factor // divisor))
        rest = value - whole.scaled(divisor)
        if rest.constant() is not None:
            return whole
        return whole + sum_of(self._symbol("floor_div", rest, sum_of(divisor)))

    def _symbol(self, op: str, *args: Sum) -> str:
        known = self._name_of(op, args)
        if known is not None:
            return known
        name = fresh_name({*self._names, *(each.name for each in self._derived)})
        self._derived.append(Computed(name, op, args))
        return name


def common_factor(value: Sum) -> Product:
    """The symbols, and the number, that all terms are multiples of."""
    common = Counter(value.terms[0].symbols)
    for term in value.terms[1:]:
        common &= Counter(term.symbols)
    return Product(gcd(*(term.factor for term in value.terms)), tuple(sorted(common.elements())))


def over(term: Product, shared: Product) -> Product:
    """A term without a factor that it is a multiple of."""
    rest = Counter(term.symbols) - Counter(shared.symbols)
    return Product(term.factor // shared.factor, tuple(sorted(rest.elements())))


def operands(derived: Derived | Computed) -> set[str]:
    """The symbols that one is made of."""
    if isinstance(derived, Derived):
        return {*derived.numerator.symbols, *derived.denominator.symbols}
    return {symbol for each in derived.args for symbol in each.symbols()}


def fresh_name(known: Iterable[str]) -> str:
    """A symbol that is not among those known."""
    taken, number = set(known), 0
    while f"_{number}" in taken:
        number += 1
    return f"_{number}"
