"""Models for the tests of sessions, in ONNX's text, and their comparison with onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
from onnx import parser

from npuvm.runtime.session import Session

__all__ = ["Array", "check", "floats", "opened", "parsed"]

Array = npt.NDArray[Any]

_HEAD = '<ir_version: 10, opset_import: ["" : 18]>\n'


def parsed(text: str) -> onnx.ModelProto:
    """A model from its graph in ONNX's text."""
    return parser.parse_model(_HEAD + text)


def opened(text: str, **options: Any) -> tuple[onnx.ModelProto, Session]:
    """The model, and a session that computes its data and no time."""
    proto = parsed(text)
    return proto, Session(proto, "edge", **{"engine": "functional", **options})


def check(session: Session, proto: onnx.ModelProto, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """Run it, and compare every output with onnxruntime's: dtype, shape and elements."""
    oracle = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    made = session.run(feeds)
    for (name, found), wanted in zip(made.items(), oracle.run(None, dict(feeds)), strict=True):
        assert (found.dtype, found.shape) == (wanted.dtype, wanted.shape), name
        np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5, err_msg=name)
    return made


def floats(*shape: int, seed: int = 0) -> Array:
    """Normally distributed numbers."""
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)
