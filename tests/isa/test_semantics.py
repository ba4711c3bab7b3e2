from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from npuvm.isa.errors import IsaError
from npuvm.isa.load import load_isa
from npuvm.isa.semantics import parse_semantics, primitives

NAMES = ("dst", "a", "b", "c", "imm")


def run(text: str, *arrays: object) -> np.ndarray:
    with np.errstate(all="ignore"):
        result: np.ndarray = parse_semantics(text, NAMES).evaluate(*arrays)
    return result


def f32(*values: float) -> np.ndarray:
    return np.array([values], dtype=np.float32)


def i32(*values: int) -> np.ndarray:
    return np.array([values], dtype=np.int32)


@pytest.mark.parametrize("text", [i.semantics for i in load_isa().instructions.values() if i.semantics])
def test_every_line_of_the_isa_parses(text: str) -> None:
    others = ("rd", "ra", "rb", "step", "start", "cols")
    assert parse_semantics(text, NAMES + others).target in ("dst", "rd")


def test_names_are_in_order_of_first_use() -> None:
    parsed = parse_semantics("dst = where(c, b, b + a)", NAMES)
    assert (parsed.target, parsed.names) == ("dst", ("c", "b", "a"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dst = a", ("copy",)),
        ("dst = 3", ("copy",)),
        ("dst = a * b + c", ("mul", "add")),
        ("dst = -max(a, b, c)", ("max", "max", "neg")),
        ("dst = 1 / sqrt(a)", ("sqrt", "div")),
        ("dst = sum(exp(a), axis=last)", ("exp", "sum_last")),
        ("dst = max(a, axis=first) <= 2", ("max_first", "compare")),
        ("dst = where(isfinite(a), ~b, a ** 2 & b | c ^ b)", ("isfinite", "not", "pow", "and", "xor", "or", "where")),
    ],
)
def test_primitives(text: str, expected: tuple[str, ...]) -> None:
    assert primitives(text, NAMES) == expected


def test_every_primitive_has_a_timing_class() -> None:
    isa = load_isa()
    used = {
        name
        for i in isa.instructions.values()
        if i.semantics and i.unit == "vector"
        for name in primitives(i.semantics, tuple(o.name for o in i.operands))
    }
    assert used <= set(isa.primitive_timing)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("dst = a + q", "'q': no such operand; there are: dst, a, b, c, imm"),
        ("dst = a +", "is no expression"),
        ("dst == a", "one assignment"),
        ("dst = a; dst = b", "one assignment"),
        ("dst[0] = a", "only an operand can be assigned"),
        ("q = a", "'q': no such operand"),
        ("dst = a // b", "'a // b': this operator"),
        ("dst = a < b < c", "one comparison at a time"),
        ("dst = a is b", "one comparison at a time"),
        ("dst = foo(a)", "'foo': no such function"),
        ("dst = a.exp()", "no such function"),
        ("dst = exp(a, b)", "exp takes 1 arguments"),
        ("dst = max(a)", "max takes 2 to 8 arguments"),
        ("dst = sum(a)", "a reduction is"),
        ("dst = sum(a, axis=1)", "a reduction is"),
        ("dst = exp(a, axis=last)", "a reduction is"),
        ("dst = max(a, b, axis=last)", "a reduction takes one value"),
        ("dst = max(*a)", "arguments cannot be unpacked"),
        ("dst = 'x'", "constants are integers or floats"),
        ("dst = True", "constants are integers or floats"),
        ("dst = 1j", "constants are integers or floats"),
        ("dst = a if b else c", "IfExp is not in the language"),
        ("dst = a[0]", "Subscript is not in the language"),
        ("dst = (lambda: a)()", "no such function"),
        ("dst = a and b", "BoolOp is not in the language"),
        ("dst = not a", "this operator"),
    ],
)
def test_refusals_name_the_part(text: str, part: str) -> None:
    with pytest.raises(IsaError) as caught:
        parse_semantics(text, NAMES, "isa.yaml:3:1")
    assert part in caught.value.message
    assert caught.value.where == "isa.yaml:3:1"


def test_types_are_kept_with_constants() -> None:
    assert run("dst = max(a, 0) * 2.5 + 1", f32(1, -1)).dtype == np.float32
    assert run("dst = a * 3", i32(7)).dtype == np.int32
    assert run("dst = where(c, a, 0.5)", np.array([[True, False]]), f32(2, 3)).dtype == np.float32
    assert run("dst = 1 / a", f32(4)).tolist() == [[0.25]]
    assert run("dst = a == b", f32(1, 2), f32(1, 3)).tolist() == [[True, False]]


def test_int32_wraps() -> None:
    top = 2**31 - 1
    assert run("dst = a + 1", i32(top)).tolist() == [[-(2**31)]]
    assert run("dst = a * a", i32(65537)).tolist() == [[131073]]
    assert run("dst = sum(a, axis=last)", i32(top, 1)).tolist() == [[-(2**31)]]
    assert run("dst = a ** 3", i32(-2, 2000)).tolist() == [[-8, (2000**3 + 2**31) % 2**32 - 2**31]]
    assert run("dst = a ** b", i32(2, 1, -1, 0), i32(-1, -3, -3, -2)).tolist() == [[0, 1, -1, 0]]
    assert run("dst = a / b", i32(7, -7), i32(2, 2)).tolist() == [[3.5, -3.5]]


def test_nan_and_infinity() -> None:
    nan = float("nan")
    assert np.isnan(run("dst = max(a, b)", f32(nan, 1), f32(1, nan))).all()
    assert np.isnan(run("dst = min(a, axis=last)", f32(nan, 1))).all()
    assert run("dst = 1 / a", f32(0.0)).tolist() == [[math.inf]]
    assert run("dst = isfinite(a)", f32(nan, math.inf, 0)).tolist() == [[False, False, True]]
    assert np.isnan(run("dst = erf(a)", f32(nan))).all()


@pytest.mark.parametrize("axis", ["last", "first"])
@pytest.mark.parametrize("name", ["sum", "max", "min"])
def test_reductions_keep_the_axis(name: str, axis: str) -> None:
    values = np.arange(12, dtype=np.float32).reshape(3, 4)
    along = 1 if axis == "last" else 0
    expected = getattr(np, name)(values, axis=along, keepdims=True)
    result = run(f"dst = {name}(a, axis={axis})", values)
    assert result.dtype == np.float32
    np.testing.assert_array_equal(result, expected)


@given(st.floats(-120, 120, width=32))
def test_transcendentals_are_rounded_once(x: float) -> None:
    def rounded(value: float) -> float:
        return float(np.float32(value)) if abs(value) < 3.4e38 else math.inf

    assert run("dst = exp(a)", f32(x)).item() == rounded(math.exp(x))
    assert run("dst = tanh(a)", f32(x)).item() == rounded(math.tanh(x))
    assert run("dst = erf(a)", f32(x)).item() == pytest.approx(math.erf(x), rel=6e-8, abs=1e-45)
    if x > 0:
        assert run("dst = log(a)", f32(x)).item() == rounded(math.log(x))
        assert run("dst = sqrt(a)", f32(x)).item() == rounded(math.sqrt(x))


def test_rounding_functions() -> None:
    x = f32(-1.5, -0.5, 0.5, 1.5, 2.5)
    for name in ("floor", "ceil", "rint", "trunc", "abs"):
        np.testing.assert_array_equal(run(f"dst = {name}(a)", x), getattr(np, name)(x))


def test_logic() -> None:
    p, q = np.array([[True, True, False]]), np.array([[True, False, False]])
    assert run("dst = a & b | ~a", p, q).tolist() == [[True, False, True]]
    assert run("dst = a ^ b", i32(6), i32(3)).tolist() == [[5]]
    assert run("dst = ~a", i32(6)).tolist() == [[-7]]


def test_scalar_division_rounds_up() -> None:
    divide = parse_semantics("rd = ceil_div(ra, rb)", ("rd", "ra", "rb")).evaluate
    assert [divide(7, 2), divide(-7, 2), divide(8, 2), divide(0, 5)] == [4, -3, 4, 0]
