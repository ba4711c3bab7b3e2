from __future__ import annotations

import subprocess
import sys

# In a process of its own: other tests bring libraries with a BLAS of their own, which is not numpy's.
SCRIPT = """
import numpy as np
from threadpoolctl import threadpool_info

from npuvm.hw.functional.blas import one_blas_thread


def threads():
    np.ones((2, 2)) @ np.ones((2, 2))
    return [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]


before = threads()
with one_blas_thread():
    inside = threads()
assert inside == [1] * len(before), inside
assert threads() == before, (threads(), before)
print(len(before), "BLAS")
"""


def test_products_use_one_thread_inside_and_what_they_had_outside() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout in ("0 BLAS\n", "1 BLAS\n")
