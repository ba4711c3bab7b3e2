"""Whether what a program did is what its case says."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from npuvm.isa.conformance.cases import Failure
from npuvm.isa.conformance.target import Outcome, ProgramCase

__all__ = ["judge"]

_APART = np.int64(np.iinfo(np.int64).max)
"""The distance of values that are not near each other in any sense."""


def judge(case: ProgramCase, outcome: Outcome) -> Failure | None:
    """None when the outcome is the expected one, else what is wrong in one line.

    A case that must be refused wants an error that names the rule in brackets, as `VerifyError` does.
    """
    wanted = _wanted(case)
    got = _ending(outcome)
    if case.refused is not None:
        refused = outcome.error is not None and f"[{case.refused}]" in outcome.error
        return None if refused else Failure(case.id, wanted, got)
    if case.trap is not None:
        return None if outcome.trap == case.trap else Failure(case.id, wanted, got)
    if outcome.error is not None or outcome.trap is not None:
        return Failure(case.id, wanted, got)
    if len(outcome.arguments) != len(case.arguments):
        return Failure(case.id, f"{len(case.arguments)} arguments", f"{len(outcome.arguments)} arguments")
    for index, expected in case.expected.items():
        difference = _difference(expected, outcome.arguments[index], case.tolerance)
        if difference is not None:
            return Failure(case.id, f"argument {index}: {difference[0]}", difference[1])
    return None


def _wanted(case: ProgramCase) -> str:
    if case.refused is not None:
        return f"refused by rule {case.refused}"
    return f"trap {case.trap}" if case.trap is not None else "it runs to its end"


def _ending(outcome: Outcome) -> str:
    if outcome.trap is not None:
        return f"trap {outcome.trap}" + (f": {outcome.error}" if outcome.error else "")
    return outcome.error or "it runs to its end"


def _difference(expected: npt.NDArray[Any], raw: npt.NDArray[np.uint8], tolerance: int) -> tuple[str, str] | None:
    """(expected, got) of the worst element, None when all are equal up to `tolerance` units of the last place."""
    if raw.nbytes != expected.nbytes:
        return f"{expected.nbytes} bytes", f"{raw.nbytes} bytes"
    got = np.frombuffer(raw.tobytes(), dtype=expected.dtype)
    flat = expected.reshape(-1)
    wrong = _distance(flat, got) > tolerance
    if not wrong.any():
        return None
    at = int(np.argmax(wrong))
    place = [int(i) for i in np.unravel_index(at, expected.shape)]
    return f"{flat[at]} at {place}", f"{got[at]}, and {int(wrong.sum()) - 1} more of {flat.size} elements differ"


def _distance(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Units of the last place between elements; two NaNs are equal, a NaN and a number as far apart as can be."""
    whole = np.dtype(f"u{a.dtype.itemsize}")
    bits_a, bits_b = (np.ascontiguousarray(x).view(whole).astype(np.int64) for x in (a, b))
    if a.dtype.kind in "iub":  # ml_dtypes' floats are of kind V or f
        return np.where(bits_a != bits_b, _APART, 0)
    top = 1 << 8 * a.dtype.itemsize - 1
    line_a, line_b = (np.where(x < top, x, top - 1 - x) for x in (bits_a, bits_b))
    nan_a, nan_b = np.isnan(a), np.isnan(b)
    apart = np.where(nan_a | nan_b, _APART, np.abs(line_a - line_b))
    return np.where(nan_a & nan_b, 0, apart)
