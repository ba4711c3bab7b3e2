"""Numbers as a report prints them."""

from __future__ import annotations

__all__ = ["nbytes", "percent", "quantity", "three_digits"]

_PREFIXES = ("", "k", "M", "G", "T", "P", "E")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB")


def quantity(value: float, unit: str) -> str:
    """Three digits and a decimal prefix: "1.49 TB/s"."""
    step = 0
    while abs(value) >= 999.5 and step < len(_PREFIXES) - 1:
        value /= 1000
        step += 1
    return f"{value:.3g} {_PREFIXES[step]}{unit}".rstrip()


def nbytes(count: float) -> str:
    """Three digits and a binary prefix: "12.5 MiB"; whole bytes below one KiB."""
    step = 0
    while abs(count) >= 1023.5 and step < len(_BINARY) - 1:
        count /= 1024
        step += 1
    return (
        f"{count:,.0f} B" if step == 0 else f"{count:.{2 if count < 10 else 1 if count < 100 else 0}f} {_BINARY[step]}"
    )


def percent(share: float | None) -> str:
    """A share as "12.3 %", a dash for none."""
    return "-" if share is None else f"{share:.1%}".replace("%", " %")


def three_digits(value: float) -> str:
    """Three significant digits, whole from a hundred on, with thousands apart: "0.00195", "1,067"; "<0.0001" for less."""
    if 0 < value < 1e-4:
        return "<0.0001"
    return f"{value:,.0f}" if abs(value) >= 99.95 else f"{value:.3g}"
