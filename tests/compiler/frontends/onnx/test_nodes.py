"""ONNX's own tests of operators, with names for all dims: everything runs on the device."""

from __future__ import annotations

import pytest
from tests.compiler.frontends.onnx.model_run import check, node_case, node_cases

NO_CARRIER = ("uint32", "uint64", "float64", "double", "int64")
"""What the names of cases say that the device has no dtype for."""

NO_TENSORS = ("opt", "sequence")

ELEMENTWISE = (
    "Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "BitwiseAnd", "BitwiseNot", "BitwiseOr",
    "BitwiseXor", "Ceil", "Celu", "Clip", "Cos", "Cosh", "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater",
    "GreaterOrEqual", "HardSigmoid", "HardSwish", "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean",
    "Min", "Mish", "Mul", "Neg", "Not", "Or", "PRelu", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign",
    "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tan", "Tanh", "ThresholdedRelu", "Where", "Xor",
)  # fmt: skip

ROWS = (
    "BatchNormalization", "Gemm", "GroupNormalization", "Hardmax", "InstanceNormalization", "LRN", "LayerNormalization",
    "LogSoftmax", "LpNormalization", "MatMul", "MatMulInteger", "MeanVarianceNormalization", "NegativeLogLikelihoodLoss",
    "RMSNormalization", "Softmax", "SoftmaxCrossEntropyLoss",
)  # fmt: skip

REDUCES = ("Max", "Mean", "Min", "Prod", "Sum", "L1", "L2", "LogSum", "SumSquare")

MOVES = {
    "Concat": (),
    "Expand": ("new_shape",),
    "Flatten": (),
    "Identity": (),
    "Pad": ("pads", "axes"),
    "Reshape": ("shape",),
    "Split": ("split",),
    "Squeeze": ("axes",),
    "Tile": ("y",),
    "Transpose": (),
    "Unsqueeze": ("axes",),
}
"""Inputs that are constants, by operator."""


def _few(*ops: str, most: int = 3) -> list[str]:
    return [name for op in ops for name in _carried(op)[:most]]


def _carried(op: str) -> list[str]:
    return [name for name in node_cases(op) if not any(each in name for each in (*NO_CARRIER, *NO_TENSORS))]


@pytest.mark.parametrize("name", _few(*ELEMENTWISE, *ROWS, most=2))
def test_numbers(name: str) -> None:
    proto, feeds, expected = node_case(name)
    check(proto, feeds, expected=expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("name", _few(*(f"Reduce{each}" for each in REDUCES)))
def test_reductions(name: str) -> None:
    proto, feeds, expected = node_case(name, _given(name, ("axes",)))
    check(proto, feeds, expected=expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(("op", "name"), [(op, name) for op in MOVES for name in _few(op)])
def test_moves(op: str, name: str) -> None:
    proto, feeds, expected = node_case(name, _given(name, MOVES[op]))
    check(proto, feeds, expected=expected)


@pytest.mark.parametrize("name", [each for each in node_cases("Slice") if "default" not in each])
def test_slices(name: str) -> None:
    proto, feeds, expected = node_case(name, _given(name, ("starts", "ends", "axes", "steps")))
    check(proto, feeds, expected=expected)


def _given(name: str, wanted: tuple[str, ...]) -> list[str]:
    """Those of the names that the case has as inputs."""
    proto, _, _ = node_case(name)
    return [each.name for each in proto.graph.input if each.name in wanted]
