"""Equal rows share a number, also where the sums by which rows are sorted collide."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npuvm.hw.expansion import rows as module
from npuvm.hw.expansion.rows import number_rows


@given(st.lists(st.tuples(st.integers(-2, 2), st.integers(0, 2)), max_size=20), st.booleans())
def test_equal_rows_share_a_number(rows: list[tuple[int, int]], collide: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if collide:
            patch.setattr(module, "_weights", lambda width: np.zeros(width, dtype=np.int64))
        first, numbers = number_rows(np.array(rows, dtype=np.int64).reshape(-1, 2))
    assert len(first) == len(set(rows))
    assert [rows[first[number]] for number in numbers] == rows
