"""Recurrent networks as scans, whose bodies are one region."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.compiler.frontends.onnx.model_run import Array, Given, check, node_case, node_cases, one_node

from npuvm.compiler.errors import CompileError
from npuvm.compiler.frontends.onnx import import_model
from npuvm.compiler.graph.model import DeviceStep, ScanStep

RNG = np.random.default_rng(12)
GATES = {"RNN": 1, "GRU": 3, "LSTM": 4}
INPUTS, HIDDEN = 4, 6


def _random(*shape: int) -> Array:
    return (RNG.standard_normal(shape) / 1.5).astype(np.float32)


def _case(
    op: str,
    direction: str = "forward",
    lengths: bool = False,
    chip: str | None = None,
    bias: bool = True,
    **attributes: Any,
) -> None:
    """A network with all inputs, of a number of steps and batches that are not known before, against onnxruntime."""
    directions, gates = 2 if direction == "bidirectional" else 1, GATES[op] * HIDDEN
    steps, batch = 5, 3
    inputs: dict[str, Given] = {
        "x": ("float32", ["T", "B", INPUTS]), "w": _random(directions, gates, INPUTS),
        "r": _random(directions, gates, HIDDEN), "h0": ("float32", [directions, "B", HIDDEN]),
    }  # fmt: skip
    feeds = {"x": _random(steps, batch, INPUTS), "h0": _random(directions, batch, HIDDEN)}
    order = ["x", "w", "r", "", "", "h0"]
    if bias:
        inputs["b"], order[3] = _random(directions, 2 * gates), "b"
    if lengths:
        inputs["l"], feeds["l"], order[4] = ("int32", ["B"]), np.array([2, 5, 1], np.int32), "l"
    if op == "LSTM":
        inputs |= {"c0": ("float32", [directions, "B", HIDDEN]), "p": _random(directions, 3 * HIDDEN)}
        feeds["c0"] = _random(directions, batch, HIDDEN)
        order += ["c0", "p"]
    outputs = ["y", "y_h", *(["y_c"] if op == "LSTM" else [])]
    proto = one_node(op, inputs, outputs, order=order, hidden_size=HIDDEN, direction=direction, **attributes)
    check(proto, feeds, chip=chip, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", node_cases("RNN", "GRU", "LSTM"))
def test_nodes_of_onnx_run_on_the_device(name: str) -> None:
    proto, feeds, expected = node_case(name)
    check(proto, feeds, expected=expected, chip="ascend_910b1", rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("lengths", [False, True])
def test_directions_and_lengths(op: str, direction: str, lengths: bool) -> None:
    _case(op, direction, lengths, chip="ascend_910b1" if direction == "reverse" else None)


@pytest.mark.parametrize("op", GATES)
def test_limits_of_gates(op: str) -> None:
    _case(op, clip=0.3)


@pytest.mark.parametrize("bias", [False, True])
def test_a_reset_behind_the_product(bias: bool) -> None:
    _case("GRU", "bidirectional", lengths=True, bias=bias, linear_before_reset=1, chip="ascend_910b1")


def test_forgetting_what_is_taken() -> None:
    _case("LSTM", input_forget=1)


@pytest.mark.parametrize(
    ("names", "given"),
    [
        (["HardSigmoid", "Relu", "Softsign"], {"activation_alpha": [0.3], "activation_beta": [0.6]}),
        (["Sigmoid", "ScaledTanh", "Affine"], {"activation_alpha": [0.7, 1.2], "activation_beta": [0.6, 0.1]}),
        (["Sigmoid", "LeakyRelu", "Softplus"], {"activation_alpha": [0.2]}),
        (["Sigmoid", "Elu", "ThresholdedRelu"], {"activation_alpha": [0.4, 0.3]}),
    ],
)
def test_activations(names: list[str], given: dict[str, Any]) -> None:
    _case("LSTM", activations=names, **given)


def test_half_precision_follows_single() -> None:
    x = _random(4, 2, INPUTS)
    w, r = _random(1, 4 * HIDDEN, INPUTS), _random(1, 4 * HIDDEN, HIDDEN)
    halves = [each.astype(np.float16) for each in (x, w, r)]
    wide: list[Array] = []
    for dtype in ("float32", "float16"):
        inputs: dict[str, Given] = {
            "x": (dtype, ["T", "B", INPUTS]), "w": halves[1].astype(dtype), "r": halves[2].astype(dtype),
        }  # fmt: skip
        proto = one_node("LSTM", inputs, ["y", "y_h", "y_c"], hidden_size=HIDDEN)
        expected = [each.astype(dtype) for each in wide] or None
        made = check(proto, {"x": halves[0].astype(dtype)}, expected=expected, rtol=5e-3, atol=5e-3)
        wide = list(made.values())


def test_a_time_step_is_one_region() -> None:
    inputs: dict[str, Given] = {
        "x": ("float32", ["T", "B", 4]), "w": _random(2, 24, 4), "r": _random(2, 24, 6), "b": _random(2, 48),
    }  # fmt: skip
    proto = one_node("LSTM", inputs, ["y", "y_h", "y_c"], hidden_size=6, direction="bidirectional")
    model = import_model(proto)
    kinds = [type(step) for step in model.steps]
    assert kinds == [DeviceStep, ScanStep, ScanStep, DeviceStep]
    scans = [step for step in model.steps if isinstance(step, ScanStep)]
    assert [step.directions for step in scans] == [(0,), (1,)]
    assert all(len(step.body.steps) == 1 for step in scans)
    products = [node.op for node in model.steps[0].graph.nodes if node.op == "matmul"]  # type: ignore[union-attr]
    assert len(products) == 2, "the inputs of all steps take one product for each direction"


def test_unknown_activations_are_refused() -> None:
    inputs: dict[str, Given] = {"x": ("float32", ["T", "B", 4]), "w": _random(1, 6, 4), "r": _random(1, 6, 6)}
    with pytest.raises(CompileError, match=r"activations .*'swish'.* allowed: 1 of affine"):
        import_model(one_node("RNN", inputs, hidden_size=6, activations=["Swish"]))
