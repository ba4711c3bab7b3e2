"""An estimated amount with its error bar."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from npuvm.hw.energy.technology import Number

__all__ = ["Amount", "priced"]


@dataclass(frozen=True)
class Amount:
    """An estimate and the half-width of its error bar, in the same unit."""

    value: float = 0.0
    error: float = 0.0

    @staticmethod
    def sum(parts: Iterable[Amount]) -> Amount:
        """All parts together. Their errors add up, as if all were wrong in the same direction."""
        listed = tuple(parts)
        return Amount(sum(part.value for part in listed), sum(part.error for part in listed))

    def times(self, factor: float, error: float = 0.0) -> Amount:
        """Multiplied by a factor with a relative error of its own; relative errors add up."""
        return Amount(self.value * factor, (self.error + self.value * error) * factor)

    @property
    def error_pct(self) -> float:
        """The error bar in percent of the value; 0 for an amount of 0."""
        return 100 * self.error / self.value if self.value else 0.0

    def to_json(self) -> dict[str, float]:
        """Value and error bar as plain JSON values."""
        return {"value": self.value, "error": self.error}


def priced(count: float, *numbers: Number) -> Amount:
    """`count` times the numbers of a technology file, with the error bars of these."""
    amount = Amount(count)
    for number in numbers:
        amount = amount.times(number.value, number.error)
    return amount
