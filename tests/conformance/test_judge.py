"""Which outcomes of a program pass; the expected verdicts are worked out by hand."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt
import pytest

from npuvm.isa.conformance import Level, Outcome, ProgramCase
from npuvm.isa.conformance.judge import judge

BF16 = np.dtype(ml_dtypes.bfloat16)
E4M3 = np.dtype(ml_dtypes.float8_e4m3fn)


def verdict(expected: npt.NDArray[Any], got: npt.NDArray[Any], tolerance: int = 0) -> str | None:
    """What is said of a case with one argument, None when it passes."""
    case = ProgramCase("case", Level.SEMANTICS, "edge", "", (expected,), {0: expected}, tolerance)
    failure = judge(case, Outcome((np.frombuffer(got.tobytes(), dtype=np.uint8),)))
    return None if failure is None else f"{failure.expected} | {failure.got}"


def floats(*bits: int) -> npt.NDArray[Any]:
    return np.array(bits, dtype=np.uint32).view(np.float32)


@pytest.mark.parametrize("dtype", [np.float32, np.float16, BF16, E4M3, np.int32, np.int8, np.bool_])
def test_equal_data_passes(dtype: Any) -> None:
    data = np.array([[0, 1], [1, 0]]).astype(dtype)
    assert verdict(data, data) is None
    assert verdict(data, data[::-1].copy()) is not None


def test_the_first_element_that_differs_is_named_with_its_place() -> None:
    expected = np.zeros((2, 3), dtype=np.int32)
    got = expected.copy()
    got[1, 1:] = 7
    assert verdict(expected, got) == "argument 0: 0 at [1, 1] | 7, and 1 more of 6 elements differ"


def test_nan_equals_nan_of_any_bits_and_nothing_else() -> None:
    assert verdict(floats(0x7FC00000), floats(0xFFC00001)) is None
    assert verdict(floats(0x7FC00000), floats(0x7F800000), tolerance=1 << 30) is not None
    assert verdict(floats(0x3F800000), floats(0x7FC00000), tolerance=1 << 30) is not None


def test_zeros_of_both_signs_differ_unless_a_tolerance_is_given() -> None:
    assert verdict(floats(0x00000000), floats(0x80000000)) is not None
    assert verdict(floats(0x00000000), floats(0x80000000), tolerance=1) is None


@pytest.mark.parametrize(("bits", "ulps"), [(0x3F800002, 2), (0x3F7FFFFF, 1), (0x3F800000, 0)])
def test_units_of_the_last_place(bits: int, ulps: int) -> None:
    assert verdict(floats(0x3F800000), floats(bits), tolerance=ulps) is None
    if ulps:
        assert verdict(floats(0x3F800000), floats(bits), tolerance=ulps - 1) is not None


def test_units_of_the_last_place_go_through_zero_and_through_negative_numbers() -> None:
    assert verdict(floats(0x00000001), floats(0x80000001), tolerance=3) is None
    assert verdict(floats(0x00000001), floats(0x80000001), tolerance=2) is not None
    assert verdict(floats(0xBF800000), floats(0xBF800001), tolerance=1) is None
    bf16 = np.array([0x3F80, 0x3F81], dtype=np.uint16).view(BF16)
    assert verdict(bf16[:1], bf16[1:], tolerance=1) is None
    assert verdict(bf16[:1], bf16[1:]) is not None


def test_a_tolerance_is_nothing_to_integers() -> None:
    assert verdict(np.array([1], dtype=np.int32), np.array([2], dtype=np.int32), tolerance=5) is not None


def test_the_size_of_an_argument_and_their_number() -> None:
    assert verdict(np.zeros(4, dtype=np.int8), np.zeros(3, dtype=np.int8)) == "argument 0: 4 bytes | 3 bytes"
    case = ProgramCase("case", Level.SEMANTICS, "edge", "", (np.zeros(1),), {})
    failure = judge(case, Outcome(()))
    assert failure is not None
    assert (failure.expected, failure.got) == ("1 arguments", "0 arguments")


ENDED = Outcome(())
TRAPPED = Outcome(trap="alignment", error="vector: base 3")
REFUSED = Outcome(error="case: word 3: no [hazard]")


@pytest.mark.parametrize(
    ("trap", "refused", "outcome", "passes"),
    [
        (None, None, ENDED, True),
        (None, None, TRAPPED, False),
        (None, None, REFUSED, False),
        ("alignment", None, TRAPPED, True),
        ("gm_range", None, TRAPPED, False),
        ("alignment", None, ENDED, False),
        ("alignment", None, REFUSED, False),
        (None, "hazard", REFUSED, True),
        (None, "deadlock", REFUSED, False),
        (None, "hazard", ENDED, False),
        (None, "hazard", TRAPPED, False),
        (None, "haz", REFUSED, False),
    ],
)
def test_how_a_program_must_end(trap: str | None, refused: str | None, outcome: Outcome, passes: bool) -> None:
    failure = judge(ProgramCase("case", Level.TRAPS, "edge", "", trap=trap, refused=refused), outcome)
    assert (failure is None) is passes
