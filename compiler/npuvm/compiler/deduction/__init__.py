"""What is known of a model's symbols: equalities, ranges, divisibility, and where each comes from."""

from __future__ import annotations

from npuvm.compiler.deduction.deduction import Deduced, Deduction

__all__ = ["Deduced", "Deduction"]
