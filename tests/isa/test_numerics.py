from __future__ import annotations

import math
import struct
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npuvm.isa.load import load_isa
from npuvm.isa.numerics import convert, immediate, to_compute

ISA = load_isa()


def to(values: np.ndarray, name: str) -> np.ndarray:
    with np.errstate(all="ignore"):
        return convert(values, ISA.dtypes[name])


@pytest.mark.parametrize("name", list(ISA.dtypes))
def test_storage_to_compute_and_back_is_the_identity(name: str) -> None:
    dtype = ISA.dtypes[name]
    width = dtype.bits if dtype.kind != "bool" else 1
    patterns = np.arange(min(1 << width, 1 << 16), dtype=np.uint32).astype(f"u{dtype.itemsize}")
    values = patterns.view(dtype.numpy)
    back = to(to_compute(values, dtype), name)
    assert back.dtype == dtype.numpy
    with np.errstate(invalid="ignore"):
        nan = np.isnan(values.astype(np.float64))
        nan_back = np.isnan(back.astype(np.float64))
    np.testing.assert_array_equal(back.view(patterns.dtype)[~nan], patterns[~nan])
    np.testing.assert_array_equal(nan_back, nan)


@given(st.integers(-(2**31), 2**31 - 1))
def test_int32_to_bf16_rounds_once(value: int) -> None:
    got = float(to(np.array([value], dtype=np.int32), "bf16")[0])
    bits = int(np.array([got], dtype=ml_dtypes.bfloat16).view(np.uint16)[0])
    neighbours = np.array([max(bits - 1, 0), bits + 1], dtype=np.uint16).view(ml_dtypes.bfloat16).astype(np.float64)
    error = abs(Fraction(got) - value)
    for other in neighbours:
        if math.isfinite(other) and other != got:
            distance = abs(Fraction(float(other)) - value)
            assert error < distance or (error == distance and bits % 2 == 0)


@given(st.floats(width=32, allow_nan=True, allow_infinity=True))
def test_float_to_int_truncates_and_saturates(value: float) -> None:
    values = np.array([value], dtype=np.float32)
    for name, bits in (("int32", 32), ("int8", 8)):
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
        if math.isnan(value):
            expected = 0
        elif math.isinf(value):
            expected = high if value > 0 else low
        else:
            expected = min(max(int(value), low), high)
        assert to(values, name).tolist() == [expected]


def test_int_to_narrower_int_saturates() -> None:
    assert to(np.array([-1000, -5, 5, 1000], dtype=np.int32), "int8").tolist() == [-128, -5, 5, 127]
    assert to(np.array([True, False]), "int8").tolist() == [1, 0]


def test_to_bool_is_not_zero() -> None:
    assert to(np.array([0.0, -0.0, 1e-30, math.nan], dtype=np.float32), "bool").tolist() == [False, False, True, True]


def test_double_results_round_to_fp32_first() -> None:
    assert to(np.array([0.1]), "fp32").dtype == np.float32
    assert to(np.array([1e300]), "fp16").tolist() == [math.inf]


def test_immediates() -> None:
    pattern = struct.unpack("<I", struct.pack("<f", -2.5))[0]
    for name in ("fp32", "fp16", "bf16"):
        value = immediate(pattern, ISA.dtypes[name])
        assert value.dtype == np.float32
        assert value.tolist() == [[-2.5]]
    for name in ("int32", "int8"):
        assert immediate(0xFFFFFFFF, ISA.dtypes[name]).item() == -1
    assert immediate(0, ISA.dtypes["bool"]).item() is False
    assert immediate(7, ISA.dtypes["bool"]).item() is True
