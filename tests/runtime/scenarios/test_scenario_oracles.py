"""The expected results of the scenario operators, against hand-made numbers and other formulas."""

from __future__ import annotations

import math

import numpy as np
import pytest

from npuvm.runtime.scenarios import oracles
from npuvm.runtime.scenarios.schema import ElementwiseCase, GemmShape, MatmulCase, RowsCase, Tolerance


def _elementwise(op: str) -> ElementwiseCase:
    return ElementwiseCase.model_validate_json(f'{{"op": "{op}", "dtypes": ["fp32"], "shapes": [[2]]}}')


def _rows(op: str) -> RowsCase:
    return RowsCase.model_validate_json(f'{{"op": "{op}", "dtypes": ["fp32"], "shapes": [[2, 2]]}}')


def _matmul(**fields: object) -> MatmulCase:
    return MatmulCase(op="matmul", dtypes=("fp32",), shapes=(GemmShape(m=2, n=3, k=4),), **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("op", "value", "wanted"),
    [
        ("exp", 0.0, 1.0),
        ("sqrt", 9.0, 3.0),
        ("relu", -2.0, 0.0),
        ("sigmoid", 0.0, 0.5),
        ("tanh", math.atanh(0.5), 0.5),
        ("gelu", 1.0, 0.841344746),  # 1 * Phi(1) of the normal table
        ("scale_shift", 2.0, 3.25),
        ("cast_to_fp32", 1.5, 1.5),
    ],
)
def test_unary_values(op: str, value: float, wanted: float) -> None:
    result = oracles.expected(_elementwise(op), [np.array([value], dtype=np.float32)])
    np.testing.assert_allclose(result, [wanted], rtol=1e-6)


def test_where_takes_the_larger_or_the_third() -> None:
    a, b, c = (np.array(v, dtype=np.float32) for v in ([1.0, 5.0], [2.0, 4.0], [9.0, 9.0]))
    np.testing.assert_array_equal(oracles.expected(_elementwise("where"), [a, b, c]), [9.0, 5.0])


def test_integers_wrap() -> None:
    big = np.array([2**31 - 1], dtype=np.int32)
    result = oracles.expected(_elementwise("add"), [big, np.array([1], dtype=np.int32)])
    np.testing.assert_array_equal(result, [-(2**31)])


def test_softmax_rows_sum_to_one() -> None:
    x = np.random.default_rng(0).standard_normal((5, 7)).astype(np.float32)
    result = oracles.expected(_rows("softmax"), [x])
    np.testing.assert_allclose(result.sum(axis=1), 1.0)
    np.testing.assert_allclose(np.log(result[:, 0] / result[:, 1]), x[:, 0] - x[:, 1], atol=1e-6)


def test_layernorm_rows_are_centred_and_scaled() -> None:
    x = np.random.default_rng(0).standard_normal((3, 64)).astype(np.float32)
    result = oracles.expected(_rows("layernorm"), [x, np.full(64, 2.0), np.full(64, 1.0)])
    np.testing.assert_allclose(result.mean(axis=1), 1.0, atol=1e-6)
    np.testing.assert_allclose(result.std(axis=1), 2.0, rtol=1e-4)


@pytest.mark.parametrize("transpose_a", [False, True])
@pytest.mark.parametrize("transpose_b", [False, True])
def test_matmul_is_einsum(transpose_a: bool, transpose_b: bool) -> None:
    case = _matmul(transpose_a=transpose_a, transpose_b=transpose_b, bias=True)
    inputs = oracles.make_inputs(case, "fp32", GemmShape(m=2, n=3, k=4, batch=5), np.random.default_rng(1))
    a, b = ("bkm" if transpose_a else "bmk"), ("bnk" if transpose_b else "bkn")
    wanted = np.einsum(f"{a},{b}->bmn", inputs[0], inputs[1]) + inputs[2]
    np.testing.assert_allclose(oracles.expected(case, inputs), wanted, rtol=1e-4, atol=1e-6)


def test_epilogue_follows_the_bias() -> None:
    case = _matmul(bias=True, epilogue="relu")
    inputs = [np.ones((1, 1)), np.ones((1, 2)), np.array([-3.0, 3.0])]
    np.testing.assert_array_equal(oracles.expected(case, inputs), [[0.0, 4.0]])


def test_compare_counts_in_units_of_the_tolerance() -> None:
    errors = oracles.compare(np.array([1.5, 2.0]), np.array([1.0, 2.0]), Tolerance(absolute=0.0, relative=0.25))
    assert (errors.absolute, errors.of_allowed, errors.ok) == (0.5, 2.0, False)


@pytest.mark.parametrize("bad", [np.array([math.nan]), np.array([1.0, 2.0])])
def test_not_a_number_and_wrong_shapes_fail(bad: np.ndarray) -> None:
    errors = oracles.compare(bad, np.array([1.0]), Tolerance(absolute=9.0, relative=9.0))
    assert errors.of_allowed == math.inf
    assert not errors.ok


def test_empty_results_pass() -> None:
    assert oracles.compare(np.zeros((0, 3)), np.zeros((0, 3)), Tolerance(absolute=0.0, relative=0.0)).ok
