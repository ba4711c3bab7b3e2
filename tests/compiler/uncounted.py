"""The simulator and the verifier as tests of the compiler run them: whole, but without counting their lines for coverage.

Both have tests of their own. Counting makes a run three times as slow, and nearly all time of these tests is spent in them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import coverage

from npuvm.hw import simulator
from npuvm.isa import verifier

__all__ = ["simulate", "uncounted", "verify"]

P = ParamSpec("P")
R = TypeVar("R")


def uncounted(function: Callable[P, R]) -> Callable[P, R]:
    """The function; while it runs, no lines are counted."""

    @wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        counting = coverage.Coverage.current()
        if counting is None:
            return function(*args, **kwargs)
        counting.stop()
        try:
            return function(*args, **kwargs)
        finally:
            counting.start()

    return wrapper


simulate = uncounted(simulator.simulate)
verify = uncounted(verifier.verify)
