"""Models at any size on a chip, their outputs those of onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from npuvm.runtime.session import Session

Array = npt.NDArray[Any]
RNG = np.random.default_rng(0)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, tuple[int, Sequence[int | str]]],
    outputs: Mapping[str, int],
    constants: Mapping[str, Array] | None = None,
) -> onnx.ModelProto:
    """A model of nodes; inputs have an element type and dims, outputs an element type."""
    graph = helper.make_graph(
        list(nodes),
        "tested",
        [helper.make_tensor_value_info(name, kind, list(dims)) for name, (kind, dims) in inputs.items()],
        [helper.make_tensor_value_info(name, kind, None) for name, kind in outputs.items()],
        [numpy_helper.from_array(each, name) for name, each in (constants or {}).items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def check(session: Session, proto: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Run it, and compare every output with onnxruntime's."""
    oracle = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    made = session.run(feeds)
    for (name, found), wanted in zip(made.items(), oracle.run(None, dict(feeds)), strict=True):
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape), name
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5, err_msg=name)
    return made


def around_the_host() -> onnx.ModelProto:
    """Two regions with an operator between them that the device cannot run; sizes behind it follow from data."""
    nodes = [
        helper.make_node("Add", ["x", "bias"], ["sum"]),
        helper.make_node("Tanh", ["sum"], ["small"]),
        helper.make_node("NonZero", ["small"], ["where"], name="find"),
        helper.make_node("Cast", ["where"], ["floats"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["floats", "two"], ["twice"]),
    ]
    constants = {"bias": RNG.standard_normal(6).astype(np.float32), "two": np.array(2, np.float32)}
    return model_of(nodes, {"x": (1, ["B", 6])}, {"small": 1, "where": 7, "twice": 1}, constants)


def test_a_host_operator_between_two_regions() -> None:
    proto = around_the_host()
    session = Session(proto, "ascend_910b1")
    for batch in (3, 5, 3):
        check(session, proto, {"x": RNG.standard_normal((batch, 6)).astype(np.float32)})
        (use,) = session.last.hosts.values()
        assert (use.op, use.source, use.calls) == ("NonZero", "find", 1)
        assert use.to_host_bytes == 4 * batch * 6
        assert session.last.launches == 2
        assert session.last.cycles > 0


@pytest.mark.parametrize("batch", [0, 1, 7])
def test_sizes_of_any_number_zero_too(batch: int) -> None:
    proto = around_the_host()
    check(Session(proto, "edge"), proto, {"x": RNG.standard_normal((batch, 6)).astype(np.float32)})
