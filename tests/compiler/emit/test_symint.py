"""Integers that are not known yet: arithmetic against plain integers, and what they refuse."""

from __future__ import annotations

import gc
import struct
import weakref
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npuvm.compiler.emit import symint
from npuvm.compiler.emit.symint import SymInt, ceil_div, compile_values, float_bits, larger, several

NAMES = ("M", "N", "K")
M, N, K = (SymInt.variable(name) for name in NAMES)

sizes = st.integers(1, 1 << 40)


@st.composite
def expressions(draw: st.DrawFn, depth: int = 4) -> Callable[[tuple[int, ...]], int]:
    """A function of M, N and K that works on plain integers as on SymInts. Divisors are positive."""
    if depth == 0 or draw(st.booleans()):
        at = draw(st.integers(0, 3))
        number = draw(st.integers(-20, 20))
        return (lambda v: number) if at == 3 else (lambda v: v[at])
    left, right = draw(expressions(depth - 1)), draw(expressions(depth - 1))
    positive = draw(st.integers(1, 64))
    kind = draw(st.sampled_from(["add", "sub", "mul", "neg", "div", "mod", "ceil", "larger", "rsub"]))
    return {
        "add": lambda v: left(v) + right(v),
        "sub": lambda v: left(v) - right(v),
        "mul": lambda v: left(v) * right(v),
        "neg": lambda v: -left(v),
        "div": lambda v: left(v) // positive,
        "mod": lambda v: left(v) % positive,
        "ceil": lambda v: ceil_div(left(v), positive),
        "larger": lambda v: larger(left(v), right(v)),
        "rsub": lambda v: positive - left(v),
    }[kind]


@given(expressions(), st.tuples(sizes, sizes, sizes))
def test_an_expression_has_the_value_that_plain_integers_give(
    expression: Callable[[tuple[int, ...]], int], values: tuple[int, int, int]
) -> None:
    assert compile_values(NAMES, [expression((M, N, K))])(*values) == (expression(values),)


@given(sizes, sizes)
def test_divisions_by_sizes(m: int, n: int) -> None:
    made = compile_values(("M", "N"), [M // N, ceil_div(M, N), 1000 // N, 1000 % N, M % N])
    assert made(m, n) == (m // n, -(-m // n), 1000 // n, 1000 % n, m % n)


def test_equal_is_what_is_equal_for_all_values() -> None:
    assert M * N == N * M
    assert M * (N + 1) == M * N + M
    assert (M * 6) // 3 == M * 2
    assert M // M == 1
    assert ceil_div(M, M) == 1
    assert ceil_div(M, 64) == -(-M // 64)
    assert M - M == 0
    assert M * 0 == 0
    assert M != N
    assert M != 1
    assert ceil_div(M, 64) != ceil_div(M, 32)
    assert len({M * N, N * M, M}) == 2


@pytest.mark.parametrize(
    "look",
    [
        lambda: bool(M),
        lambda: M < 3,
        lambda: M >= N,
        lambda: M < 3,
        lambda: max(M, N),
        lambda: divmod(M, 2),
        lambda: M / 2,
        lambda: float(M),
        lambda: int(M),
    ],
)
def test_nothing_can_be_decided_by_a_size(look: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match=r"a template cannot depend on the value of [MN]"):
        look()


@given(st.integers(0, 1 << 62), st.sampled_from(["fp32", "fp16"]))
def test_bits_of_a_size_as_a_float(value: int, dtype: str) -> None:
    with np.errstate(over="ignore"):
        rounded = np.asarray(float(value)).astype({"fp32": np.float32, "fp16": np.float16}[dtype]).astype(np.float32)
    expected = struct.unpack("<I", struct.pack("<f", float(rounded)))[0]
    assert float_bits(value, dtype) == expected
    assert compile_values(("M",), [float_bits(M, dtype)])(value) == (expected,)


def test_names_of_symbols_do_not_matter() -> None:
    """A symbol may be called like anything in the text of a compiled function."""
    names = ("t1", "v0", "float_bits", "lambda", "_1")
    values = [SymInt.variable(name) for name in names]
    made = compile_values(names, [ceil_div(values[0], 8), values[1] * values[2], values[3] - values[4], 7])
    assert made(17, 2, 3, 11, 4) == (3, 6, 7, 7)


def test_a_function_that_nobody_keeps_is_gone_without_the_cycle_collector() -> None:
    """It is made with names of its own, which do not have it among them."""
    gc.disable()
    try:
        made = weakref.ref(compile_values(("M",), [M * 1_234_567]))
        symint._function.cache_clear()
        assert made() is None
    finally:
        gc.enable()


def test_several() -> None:
    assert [several(size) for size in (0, 1, 2, M)] == [False, False, True, True]
