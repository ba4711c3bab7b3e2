"""Symbolic sizes: products of dims, derived symbols, and their values for concrete shapes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import gcd

from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.types import Dim

__all__ = ["Check", "Derived", "Product", "Ratio", "cancel", "evaluate", "product"]


@dataclass(frozen=True, slots=True)
class Product:
    """`factor * symbol * symbol ...`, symbols sorted. An empty product is its factor."""

    factor: int = 1
    symbols: tuple[str, ...] = ()

    def value(self, binding: Mapping[str, int]) -> int:
        """The product for concrete values of its symbols."""
        result = self.factor
        for symbol in self.symbols:
            result *= binding[symbol]
        return result

    def dim(self) -> Dim | None:
        """The single dim this product is, if it is one."""
        if not self.symbols:
            return self.factor
        return self.symbols[0] if self.factor == 1 and len(self.symbols) == 1 else None

    def __str__(self) -> str:
        parts = ([str(self.factor)] if self.factor != 1 or not self.symbols else []) + list(self.symbols)
        return " * ".join(parts)


_ONE = Product()


class Ratio(str):
    """The name of a symbol that is a product over a product, which it tells: so that its factors are seen behind the name.

    `numerator` and `denominator` have no such names in them whose denominator is 1.
    """

    numerator: Product
    denominator: Product

    def __new__(cls, name: str, numerator: Product = _ONE, denominator: Product = _ONE) -> Ratio:
        made = super().__new__(cls, name)
        made.numerator, made.denominator = numerator, denominator
        return made


@dataclass(frozen=True, slots=True)
class Derived:
    """A symbol defined by a reshape: `name = numerator / denominator`, exact for every legal shape."""

    name: str
    numerator: Product
    denominator: Product

    def __str__(self) -> str:
        return f"{self.name} = {self.numerator} / {self.denominator}"

    def value(self, binding: Mapping[str, int]) -> int:
        """The size for concrete values of its symbols. Raises CompileError when the division leaves a rest."""
        top, bottom = self.numerator.value(binding), self.denominator.value(binding)
        if bottom == 0:
            if top != 0:
                raise CompileError(f"{self}: {top} elements cannot be laid out with an empty dimension")
            return 0
        if top % bottom:
            raise CompileError(f"{self}: {top} is not a multiple of {bottom}")
        return top // bottom


@dataclass(frozen=True, slots=True)
class Check:
    """An equality of sizes that holds for every legal shape and is tested on a concrete one."""

    left: Product
    right: Product

    def __str__(self) -> str:
        return f"{self.left} == {self.right}"

    def test(self, binding: Mapping[str, int]) -> None:
        """Raise CompileError when the sides differ for these values of the symbols."""
        left, right = self.left.value(binding), self.right.value(binding)
        if left != right:
            raise CompileError(f"shapes disagree: {self} is {left} == {right}")


def product(dims: Sequence[Dim]) -> Product:
    """The product of dims in normal form; of symbols that are products themselves their factors are in it."""
    factor, symbols = 1, list[str]()
    for dim in dims:
        if isinstance(dim, int):
            factor *= dim
        elif isinstance(dim, Ratio) and dim.denominator == _ONE:
            factor *= dim.numerator.factor
            symbols += dim.numerator.symbols
        else:
            symbols.append(dim)
    return Product(factor, tuple(sorted(symbols)))


def cancel(numerator: Product, denominator: Product) -> tuple[Product, Product]:
    """Both products without their common factors, quotients among them expanded. A factor 0 is left alone."""
    for symbol in numerator.symbols:
        if isinstance(symbol, Ratio):
            return cancel(_swapped(numerator, symbol), _joined(denominator, symbol.denominator))
    for symbol in denominator.symbols:
        if isinstance(symbol, Ratio):
            return cancel(_joined(numerator, symbol.denominator), _swapped(denominator, symbol))
    top, bottom = Counter(numerator.symbols), Counter(denominator.symbols)
    common = top & bottom
    top, bottom = top - common, bottom - common
    divisor = gcd(numerator.factor, denominator.factor) if numerator.factor and denominator.factor else 1
    return (
        Product(numerator.factor // divisor, tuple(sorted(top.elements()))),
        Product(denominator.factor // divisor, tuple(sorted(bottom.elements()))),
    )


def _joined(a: Product, b: Product) -> Product:
    return Product(a.factor * b.factor, tuple(sorted((*a.symbols, *b.symbols))))


def _swapped(value: Product, symbol: Ratio) -> Product:
    """A product with the numerator of a quotient in the place of its name."""
    rest = list(value.symbols)
    rest.remove(symbol)
    return _joined(Product(value.factor, tuple(rest)), symbol.numerator)


def evaluate(dims: Sequence[Dim], binding: Mapping[str, int]) -> tuple[int, ...]:
    """Concrete sizes of dims."""
    return tuple(binding[dim] if isinstance(dim, str) else dim for dim in dims)
