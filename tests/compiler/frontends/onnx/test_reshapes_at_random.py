"""Random chains of reshapes, transposes, slices, parts and broadcasts on symbols, at sizes down to 0, against onnxruntime."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.compiler.frontends.onnx.model_run import Array, run_model

from npuvm.compiler.errors import CompileError
from npuvm.compiler.frontends.onnx import import_model
from npuvm.compiler.graph.model import Guard, Model

FAILS = (
    onnxruntime.capi.onnxruntime_pybind11_state.Fail,
    onnxruntime.capi.onnxruntime_pybind11_state.InvalidArgument,
    onnxruntime.capi.onnxruntime_pybind11_state.RuntimeException,
)


class Chain:
    """A graph in the making over x [B, S, D] and y [B, P, D]; `values` are names with their ranks."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.values = [("x", 3), ("y", 3)]

    def op(self, kind: str, *inputs: str | list[int], outputs: int = 1, **attributes: Any) -> str:
        names = []
        for each in inputs:
            if isinstance(each, list):
                self.constants.append(numpy_helper.from_array(np.array(each), f"c{len(self.constants)}"))
                each = self.constants[-1].name
            names.append(each)
        made = [f"v{len(self.nodes)}_{at}" for at in range(outputs)]
        self.nodes.append(helper.make_node(kind, names, made, name=f"{kind}_{len(self.nodes)}", **attributes))
        return made[0]

    def size(self, value: str, axis: int) -> str:
        return self.op("Gather", self.op("Shape", value), [axis], axis=0)

    def other(self, rank: int) -> str:
        return self.rng.choice([name for name, each in self.values if each == rank])

    def grow(self) -> None:
        """Add one operator."""
        rng = self.rng
        value, rank = rng.choice(self.values)
        kind = rng.choice(["reshape", "transpose", "concat", "slice", "add", "flat", "split", "reduce", "expand"])
        if kind == "reshape" and rank == 3:
            self.values.append((self.op("Reshape", value, [0, 0, rng.choice([2, 3, 4]), -1]), 4))
            self.values.append((self.op("Reshape", value, self.op("Concat", [-1], self.size(value, 2), axis=0)), 2))
        elif kind == "reshape" and rank == 4:
            self.values.append((self.op("Reshape", value, [0, 0, -1]), 3))
        elif kind == "reshape" and rank == 1:
            like = self.other(3)
            target = self.op("Concat", self.size(like, 0), self.size(like, 1), [-1], axis=0)
            self.values.append((self.op("Reshape", value, target), 3))
        elif kind == "flat":
            self.values.append((self.op("Reshape", value, [-1]), 1))
        elif kind == "transpose":
            self.values.append((self.op("Transpose", value, perm=rng.sample(range(rank), rank)), rank))
        elif kind == "concat":
            self.values.append((self.op("Concat", value, value, axis=rng.randrange(rank)), rank))
        elif kind == "slice":
            bounds = [rng.choice([0, 1, -2])], [rng.choice([3, 2**63 - 1, -1])]
            self.values.append((self.op("Slice", value, *bounds, [rng.randrange(rank)], [rng.choice([1, 2])]), rank))
        elif kind == "add":
            self.values.append((self.op("Add", value, self.other(rank)), rank))
        elif kind == "split":
            part = self.op("Split", value, outputs=2, axis=rng.randrange(rank), num_outputs=2)
            self.values += [(part, rank), (part.replace("_0", "_1"), rank)]
        elif kind == "reduce":
            self.values.append((self.op("Mul", value, self.op("ReduceSum", value, [0], keepdims=1)), rank))
        elif kind == "expand" and rank == 3:
            shape = self.op("Shape", self.other(3))
            self.values.append((self.op("Expand", self.op("ReduceMax", value, [1], keepdims=1), shape), 3))

    def model(self) -> onnx.ModelProto:
        while not self.nodes:
            self.grow()
        inputs = [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", "S", "D"]),
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["B", "P", "D"]),
        ]
        result = onnx.ValueInfoProto(name=self.values[-1][0])
        graph = helper.make_graph(self.nodes, "chain", inputs, [result], self.constants)
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
        return onnx.shape_inference.infer_shapes(proto)


def assumed(model: Model, sizes: Mapping[str, int]) -> bool:
    """Whether all guards hold, those of derived sizes too."""
    binding = dict(sizes)
    for each in model.derived:
        try:
            binding[each.name] = each.value(binding)
        except (CompileError, KeyError):
            continue

    def holds(guard: Guard) -> bool:
        known = guard.left.symbols() | guard.right.symbols() <= binding.keys()
        return known and guard.holds(binding)

    return all(map(holds, model.guards))


def expected(session: onnxruntime.InferenceSession, feeds: Mapping[str, Array]) -> Array | None:
    try:
        return np.asarray(session.run(None, dict(feeds))[0])
    except FAILS:
        return None


@pytest.mark.parametrize("seed", range(60))
def test_a_chain_is_that_of_onnxruntime(seed: int) -> None:
    chain = Chain(seed)
    for _ in range(chain.rng.randint(2, 7)):
        chain.grow()
    proto = chain.model()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    model = import_model(proto)
    for batch, length, other, depth in ((2, 3, 3, 24), (1, 4, 2, 24), (3, 1, 1, 12), (1, 0, 2, 48), (2, 6, 6, 1)):
        sizes = {"B": batch, "S": length, "P": other, "D": depth}
        rng = np.random.default_rng(seed)
        feeds = {
            "x": rng.standard_normal((batch, length, depth)).astype(np.float32),
            "y": rng.standard_normal((batch, other, depth)).astype(np.float32),
        }
        wanted = expected(session, feeds)
        if wanted is None:
            continue  # sizes that the chain does not allow
        fitting = model if assumed(model, sizes) else import_model(proto, fixed=sizes)
        (found,) = run_model(fitting, feeds).values()
        assert found.shape == wanted.shape, (sizes, found.shape, wanted.shape)
        np.testing.assert_allclose(found, wanted, 1e-4, 1e-5, err_msg=str(sizes))
