"""Operators that compute sizes from sizes: what the shapes of reshapes, slices and expansions are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from npuvm.compiler.frontends.onnx.operator import Operator
from npuvm.compiler.frontends.onnx.registry import size_rule

__all__: list[str] = []


@size_rule("Shape")
def _shape(op: Operator) -> npt.NDArray[np.object_] | None:
    entry = op.input(0)
    if entry.shape is None:
        return None
    start, end = op.attribute("start", 0), op.attribute("end")  # as in Python, moved to the ends
    return array_of([op.size(dim) for dim in entry.shape[start:end]])


@size_rule("Concat")
def _concat(op: Operator) -> npt.NDArray[np.object_] | None:
    if not op.all_sizes():
        return None
    return np.concatenate([op.sizes(at) for at in range(len(op.inputs))], axis=op.attribute("axis"))


def array_of(values: list[Any]) -> npt.NDArray[np.object_]:
    """A vector of sums."""
    made = np.empty(len(values), dtype=object)
    made[:] = values
    return made
