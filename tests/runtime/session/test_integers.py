"""int64 inputs in sessions: on the device where they are as small as they are taken to be, right where they are not."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

from npuvm.runtime.session import Session
from npuvm.runtime.session.errors import SessionError

LARGE = np.array([2**30, -(2**31), 5])
SMALL = np.array([2**24, 1, -3])


def _difference() -> onnx.ModelProto:
    given = [helper.make_tensor_value_info(name, onnx.TensorProto.INT64, ["N"]) for name in "ab"]
    made = helper.make_tensor_value_info("y", onnx.TensorProto.INT64, ["N"])
    graph = helper.make_graph([helper.make_node("Sub", ["a", "b"], ["y"])], "difference", given, [made])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def test_a_model_is_read_again_for_integers_that_are_larger_than_they_were_taken_to_be() -> None:
    session = Session(_difference(), "edge", engine="functional")
    np.testing.assert_array_equal(session.run({"a": SMALL, "b": SMALL[::-1]})["y"], SMALL - SMALL[::-1])
    for _ in range(2):
        np.testing.assert_array_equal(session.run({"a": LARGE, "b": LARGE[::-1]})["y"], LARGE - LARGE[::-1])
        assert session.last.reread == "an input holds integers larger than it was taken to"
    assert session.stats.models_reread == 1
    np.testing.assert_array_equal(session.run({"a": SMALL, "b": SMALL})["y"], 0 * SMALL)
    assert not session.last.reread


def test_without_a_host_integers_that_are_too_large_are_an_error() -> None:
    session = Session(_difference(), "edge", engine="functional", no_host=True)
    with pytest.raises(SessionError, match="operators would run on the host: Sub"):
        session.run({"a": LARGE, "b": SMALL})


def test_a_model_without_its_source_refuses_them() -> None:
    session = Session(Session(_difference(), "edge").model, "edge", engine="functional")
    with pytest.raises(SessionError, match="an input holds integers larger than it was taken to"):
        session.run({"a": LARGE, "b": SMALL})
