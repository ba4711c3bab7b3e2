"""What is known of a model's symbols: equalities, ranges, divisibility, and where each comes from."""

from __future__ import annotations

from npuvm.compiler.deduction.deduction import (
    ANY_SIZE,
    LARGEST_SIZE,
    Contradiction,
    Deduced,
    Deduction,
    Undecided,
    whole_quotient,
)
from npuvm.compiler.deduction.reporting import report

__all__ = [
    "ANY_SIZE", "LARGEST_SIZE", "Contradiction", "Deduced", "Deduction", "Undecided", "report", "whole_quotient",
]  # fmt: skip
