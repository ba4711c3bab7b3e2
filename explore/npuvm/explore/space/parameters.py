"""Parameters: what varies between the points of a space, each with finitely many values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from types import MappingProxyType
from typing import Literal, TypeAlias

from npuvm.compiler.language.pins import BUFFERINGS, FUSIONS
from npuvm.explore.space.schema import RangeFields, Value

__all__ = ["EXTENSIONS", "OPTIONS", "Parameter", "ParameterKind", "Point", "range_values"]

Point: TypeAlias = Mapping[str, Value]
"""A value for each parameter, by its name."""

ParameterKind: TypeAlias = Literal["field", "bundle", "extension", "option"]

EXTENSIONS = "isa.extensions"
"""Key of a space file that names extensions of the instruction set."""

OPTIONS: Mapping[str, tuple[Value, ...]] = MappingProxyType(
    {"compiler.fusion": FUSIONS, "compiler.buffering": BUFFERINGS}
)
"""Options of the compiler that a space may vary, with all their values."""

_MOST_VALUES = 4096


@dataclass(frozen=True)
class Parameter:
    """What one parameter may be.

    A field's values are those of a field of the chip; a bundle's are names of `bundles`, which say what each sets; an
    extension's are whether it is on; an option's are those of `OPTIONS`.
    """

    name: str
    kind: ParameterKind
    values: tuple[Value, ...]
    bundles: Mapping[str, Mapping[str, Value]] = field(default_factory=dict)
    extension: str = ""

    @property
    def ordered(self) -> bool:
        """Whether values lie on a line: all are numbers, in rising order."""
        numbers = [value for value in self.values if isinstance(value, int | float) and not isinstance(value, bool)]
        return len(numbers) == len(self.values) and numbers == sorted(numbers)

    def writes(self, value: Value) -> Mapping[str, Value]:
        """The fields of the chip that a value sets; none for extensions and options."""
        if self.kind == "field":
            return {self.name: value}
        return self.bundles[str(value)] if self.kind == "bundle" else {}


def range_values(fields: RangeFields) -> tuple[int | float, ...]:
    """The values of a range in rising order, exact in decimals; ValueError where there are too many."""
    values = tuple(_number(value) for value in _steps(fields))
    if len(values) > _MOST_VALUES:
        raise ValueError(f"more than {_MOST_VALUES} values; allowed is a larger step or factor")
    return values


def _steps(fields: RangeFields) -> Iterator[Fraction]:
    first, last = _exact(fields.first), _exact(fields.last)
    step = None if fields.factor is not None else _exact(1 if fields.step is None else fields.step)
    value = first
    for _ in range(_MOST_VALUES + 1):
        if value > last:
            return
        yield value
        value = value * _exact(fields.factor) if step is None and fields.factor is not None else value + (step or 0)


def _exact(number: int | float) -> Fraction:
    return Fraction(str(number))


def _number(value: Fraction) -> int | float:
    return value.numerator if value.denominator == 1 else float(value)
