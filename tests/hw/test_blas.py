from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_info

from npuvm.hw.blas import one_blas_thread


def threads() -> list[int]:
    np.ones((2, 2)) @ np.ones((2, 2))
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


def test_products_use_one_thread_inside_and_what_they_had_outside() -> None:
    before = threads()
    with one_blas_thread():
        assert threads() == [1] * len(before)
    assert threads() == before
