"""What is known of a model's symbols: equalities, ranges, divisibility, and where each comes from."""

from __future__ import annotations

from npuvm.compiler.deduction.deduction import LARGEST_SIZE, Contradiction, Deduced, Deduction, Undecided
from npuvm.compiler.deduction.report import report

__all__ = ["LARGEST_SIZE", "Contradiction", "Deduced", "Deduction", "Undecided", "report"]
