"""The activation functions of recurrent networks, as their attributes name them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from npuvm.compiler.errors import CompileError
from npuvm.compiler.frontends.onnx.operator import Operator
from npuvm.compiler.language.kernel import KernelBuilder
from npuvm.compiler.language.value import Value

__all__ = ["ACTIVATIONS", "Activation", "activations_of"]

Activation = tuple[str, float, float]
"""A function in lower case, its alpha and beta."""

ACTIVATIONS: Mapping[str, Callable[[KernelBuilder, Value, float, float], Value]] = {
    "sigmoid": lambda k, x, a, b: k.sigmoid(x),
    "tanh": lambda k, x, a, b: k.tanh(x),
    "relu": lambda k, x, a, b: k.relu(x),
    "softplus": lambda k, x, a, b: k.softplus(x),
    "softsign": lambda k, x, a, b: x / (1.0 + k.abs(x)),
    "affine": lambda k, x, a, b: x * a + b,
    "leakyrelu": lambda k, x, a, b: k.select(x >= 0.0, x, x * a),
    "thresholdedrelu": lambda k, x, a, b: k.select(x > a, x, 0.0),
    "scaledtanh": lambda k, x, a, b: k.tanh(x * b) * a,
    "hardsigmoid": lambda k, x, a, b: k.minimum(k.maximum(x * a + b, 0.0), 1.0),
    "elu": lambda k, x, a, b: k.select(x >= 0.0, x, (k.exp(x) - 1.0) * a),
}

_ALPHA = {"affine": 1.0, "leakyrelu": 0.01, "thresholdedrelu": 1.0, "scaledtanh": 1.0, "hardsigmoid": 0.2, "elu": 1.0}
_BETA = {"affine": 0.0, "scaledtanh": 1.0, "hardsigmoid": 0.5}
_DEFAULTS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}


def activations_of(op: Operator, directions: int) -> list[list[Activation]]:
    """The functions of each direction. Only those that take an alpha or a beta use one up, as in onnxruntime."""
    default = _DEFAULTS[op.type]
    names = [each.lower() for each in op.attribute("activations") or default * directions]
    if len(names) != len(default) * directions or not set(names) <= set(ACTIVATIONS):
        allowed = f"{len(default) * directions} of {', '.join(sorted(ACTIVATIONS))}"
        raise CompileError(f"{op.type}: activations {names}; allowed: {allowed}", op.source)
    alphas, betas = (iter(op.attribute(f"activation_{name}") or ()) for name in ("alpha", "beta"))
    found = []
    for name in names:
        alpha = next(alphas, _ALPHA[name]) if name in _ALPHA else 0.0
        beta = next(betas, _BETA[name]) if name in _BETA else 0.0
        found.append((name, float(alpha), float(beta)))
    return [found[at : at + len(default)] for at in range(0, len(found), len(default))]
