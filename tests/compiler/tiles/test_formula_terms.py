"""Formulas that are written once: the same numbers from arrays and from functions of plain numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from npuvm.compiler.tiles.formula_terms import Term, compile_term, largest, least, pick, same


def test_terms_calculate_as_arrays_do() -> None:
    """A formula with everything in it, as a function and with arrays."""

    def formula(x: Any, y: Any) -> Any:
        cut = -(-x // y) + 7 // least(y, 3) * 2 - 3
        low, high = least(cut, y), largest(x / 3, 2.5)
        odd = pick(same(x % 2, 1), high * 1, 1 / y + low)
        return odd + (4 - x) * y + pick(same(x, y), x, 0) + 5 - x * 0 + x // y

    function = compile_term(("x",), ("y",), formula(Term("x"), Term("y")))
    x, y = np.meshgrid(np.arange(1.0, 14), np.arange(1.0, 9))
    for expected, (a, b) in zip(formula(x, y).ravel(), zip(x.ravel(), y.ravel(), strict=True), strict=True):
        assert function(int(a))(int(b)) == pytest.approx(expected, rel=1e-12)


def test_terms_cannot_be_looked_at() -> None:
    with pytest.raises(TypeError, match="cannot depend"):
        bool(same(Term("x"), 3))
