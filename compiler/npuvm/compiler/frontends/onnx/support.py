"""The page that tells where each operator of ONNX runs: made of the rules, with their limits in words.

python -m npuvm.compiler.frontends.onnx.support > docs/reference/onnx-operators.md
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from onnx import defs

from npuvm.compiler.frontends.onnx.registry import RULES, SIZE_RULES
from npuvm.compiler.frontends.onnx.rules import MODULES
from npuvm.compiler.graph.carriers import CARRIERS

__all__ = ["LIMITS", "operators_page"]

_INT64 = "int64 where bounds show that int32 holds the result"
_CONSTANT_AXES = "axes are constants"
_FP = "fp32, fp16, bf16"

LIMITS: Mapping[str, str] = {
    **dict.fromkeys(("Add", "Mul", "Sub", "Sum"), f"integers wrap as ONNX's do; {_INT64}"),
    **dict.fromkeys(("ReduceL1", "ReduceSum", "ReduceSumSquare"), f"{_CONSTANT_AXES}; {_INT64}"),
    **dict.fromkeys(("ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMean"), f"{_FP}; {_CONSTANT_AXES}"),
    **dict.fromkeys(("ReduceMax", "ReduceMin"), _CONSTANT_AXES),
    **dict.fromkeys(("Compress", "NonZero", "Unique"), "host: the size of the result follows from data"),
    **dict.fromkeys(("Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Cosh", "Sinh"), f"{_FP}; computed in fp32"),
    **dict.fromkeys(("GRU", "LSTM", "RNN"), f"{_FP}; a scan, its body one region"),
    **dict.fromkeys(("Cos", "Sin", "Tan"), f"{_FP}; computed in fp32, exact for arguments of any size"),
    "Abs": "int64 but for the least int32",
    "Attention": "heads of 3-D inputs are known; no softmax in float64; with a cap, no scores of mode 0",
    "AveragePool": "ceil_mode with pads of half a window at most",
    "BatchNormalization": "training_mode too",
    "BitShift": "no int64, uint32, uint64",
    "Cast": "floats become int64 where bounds show that int32 holds them; what infinities and NaN become is undefined",
    "CastLike": "as Cast",
    "Clip": "all dtypes that the device carries",
    "ConstantOfShape": "the shape follows from sizes",
    "Conv": "one to three dims; groups of known channels",
    "ConvInteger": "int8 and uint8",
    "ConvTranspose": "one to three dims; kernels of known sizes; output_shape for images of known sizes",
    "CumProd": "the axis is a constant, the length is known; no int64",
    "CumSum": f"the axis is a constant; {_INT64}",
    "DFT": f"{_FP}; a known length of up to 4096",
    "DepthToSpace": "the number of channels is known",
    "DequantizeLinear": "zero points of 8-bit floats are a constant 0",
    "Div": f"integers round towards zero, division by 0 is undefined; {_INT64}",
    "Dropout": "inference; in training with a ratio of 0",
    "Einsum": f"{_FP}; no diagonals, no stretched dims of an ellipsis",
    "Expand": "the shape follows from sizes",
    "GatherND": "the number of indices in a row is known",
    "Gemm": _FP,
    "GridSample": f"{_FP}; computed in fp32",
    "GroupNormalization": "the number of channels is known",
    "LRN": _FP,
    "LpPool": "without ceil_mode",
    "MatMul": _FP,
    "MatMulInteger": "int8 and uint8 with zero points; rank 2 or more",
    "MaxPool": "without the places of the largest elements; ceil_mode with pads of half a window at most",
    "Mod": "integers; remainders of floats would not be exact",
    "NegativeLogLikelihoodLoss": "classes in int32 or int64",
    "OneHot": "the depth follows from sizes",
    "Pad": "pads follow from sizes; reflect and wrap with known dims",
    "Pow": "bases in fp32, fp16, bf16",
    "QLinearConv": "int8 and uint8; requantized in fp32",
    "QLinearMatMul": "int8 and uint8; requantized in fp32",
    "QuantizeLinear": "zero points of 8-bit floats are a constant 0",
    "Range": "integers whose ends follow from sizes, a constant step; ranges of constants are folded",
    "ReduceProd": f"{_CONSTANT_AXES}; no int64",
    "Reshape": "the shape follows from sizes",
    "Resize": (
        "scales are constants, for unknown sizes fractions; sizes follow from sizes; no region of interest; antialias and "
        "proportions for known sizes"
    ),
    "RotaryEmbedding": "numbers and sizes of heads are known",
    "STFT": f"{_FP}; windows of a known length of up to 4096, a constant step",
    "ScatterElements": f"reductions none and add; {_INT64}",
    "ScatterND": f"reductions none and add; {_INT64}; the number of indices in a row is known",
    "Slice": "bounds follow from sizes, steps are constants; backwards with constant bounds",
    "SoftmaxCrossEntropyLoss": "classes in int32 or int64",
    "SpaceToDepth": "the image's sizes are known",
    "Split": "parts follow from sizes",
    "Squeeze": _CONSTANT_AXES,
    "Tile": "repeats follow from sizes",
    "TopK": "K follows from sizes",
    "Unsqueeze": _CONSTANT_AXES,
}
"""What a rule asks of an operator, by type; otherwise the operator runs on the host."""

_PAGE = """\
# ONNX operators

Where each operator of ONNX's own domain runs when a model is read (`npuvm.compiler.frontends.onnx`) and run by a session
([sessions](sessions.md)). This page is made by `python -m npuvm.compiler.frontends.onnx.support`;
`python benchmarks/onnx_nodes.py` runs the tests of the onnx package and prints how many run wholly on the device.

* *device*: by a rule, in a fused region of the device.
* *definition*: through the operators that ONNX defines it by, each of which is in this table.
* *import*: when the model is read; integers that follow from sizes stay symbols, and are no work at run time.
* *session*: the session runs its bodies, their operators on the device.
* *host*: by onnxruntime or ONNX's reference, between regions.

An operator of constants alone is computed when the model is read. One that asks for more than stands under *limits* runs on
the host, and the session's report says why.

## Dtypes

| in the model | on the device |
|---|---|
{carriers}

int64 is checked when it goes to the device: a number that int32 does not hold is an error. Arithmetic on int64 runs on the
device where the bounds of its operands, which follow from constants, sizes, `Clip`, `Min` and the like, show that int32 holds
the result; otherwise it runs on the host. Sums, differences and products of 8-bit and 16-bit integers wrap as ONNX's do. fp16
and bf16 are computed in fp32 and rounded once for an operator. float64, uint32, uint64, complex numbers and text stay on the
host.

## Operators

| operator | where | limits |
|---|---|---|
{operators}
"""


def operators_page() -> str:
    """The page in Markdown."""
    assert MODULES  # with the modules, their rules are known
    names = sorted({each.name for each in defs.get_all_schemas() if not each.domain and not each.deprecated})
    rows = [f"| {name} | {_where(name)} | {LIMITS.get(name, '').removeprefix('host: ')} |" for name in names]
    carriers = "\n".join(f"| {model} | {device} |" for model, device in CARRIERS.items())
    return _PAGE.format(carriers=carriers, operators="\n".join(rows))


def _where(name: str) -> str:
    schema: Any = defs.get_schema(name)  # the stubs of onnx lack functions
    if LIMITS.get(name, "").startswith("host: "):
        return "host"
    if name in ("If", "Loop", "Scan"):
        return "session"
    if ("", name) in RULES:
        return "device"
    if ("", name) in SIZE_RULES or name == "Constant":
        return "import"
    return "definition" if schema.has_function or schema.has_context_dependent_function else "host"


if __name__ == "__main__":
    sys.stdout.write(operators_page())
