"""What is known while a graph is read: operators of constants, and operators that functions define."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from npuvm.compiler.frontends.onnx.functions import body_of_function, body_of_schema
from npuvm.compiler.frontends.onnx.host import single

if TYPE_CHECKING:
    from npuvm.compiler.frontends.onnx.operator import Operator

__all__ = ["Folded", "expand", "fold"]

Array = npt.NDArray[Any]

_LARGEST = 1 << 26
"""Most elements of a constant that is computed while the graph is read."""

_WEIGHT = 1 << 14
"""Elements from which on a constant is turned on the device, by strides, and not while the graph is read."""

_REFUSALS = (
    ArithmeticError,
    AttributeError,
    IndexError,
    KeyError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)
"""What the reference raises for operators that it does not have, or not for these dtypes and attributes."""

_RANDOM = {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Bernoulli", "Multinomial"}
_CONTROL = {"If", "Loop", "Scan", "SequenceMap"}


@dataclass(slots=True)
class Folded:
    """Results of operators of constants, by the name of the first one, with the constants that they were computed of.

    `initialisers` are those of bodies, by where the body stands and their name.
    """

    known: dict[str, tuple[tuple[Array, ...], list[Array]]] = field(default_factory=dict)
    initialisers: dict[tuple[str, str], tuple[onnx.TensorProto, Array]] = field(default_factory=dict)

    def initialiser(self, path: str, tensor: onnx.TensorProto) -> Array:
        """The array of an initialiser of a body, the same one at each reading."""
        found = self.initialisers.get((path, tensor.name))
        # Which branch is read at this place may follow from sizes that are given.
        if found is None or found[0] != tensor:
            found = self.initialisers[path, tensor.name] = tensor, numpy_helper.to_array(tensor)
        return found[1]


def fold(operator: Operator) -> list[Array] | None:
    """Results of an operator whose inputs are all constants, as ONNX's reference computes them; None where they are not."""
    if operator.type in _RANDOM | _CONTROL or (operator.type == "Dropout" and len(operator.inputs) > 2):
        return None
    given = [each for each in operator.inputs if each is not None]
    inputs = tuple(each.const for each in given if each.const is not None)
    if len(inputs) < len(given):
        return None
    if operator.type == "Constant" and "value" in operator.attributes:
        return _kept(operator, inputs, lambda: [numpy_helper.to_array(operator.attributes["value"])])
    if operator.type == "Identity":
        return [inputs[0]]
    if operator.type == "Transpose" and inputs[0].size > _WEIGHT:
        return None
    return _kept(operator, inputs, lambda: _evaluated(operator))


def _kept(operator: Operator, inputs: tuple[Array, ...], compute: Any) -> list[Array] | None:
    """What an earlier reading of the graph computed of the same constants, or what is computed now."""
    known = operator.lowering.folded.known
    name = operator.lowering.name(next((each for each in operator.node.output if each), operator.source))
    found = known.get(name)
    if found is not None and len(found[0]) == len(inputs) and all(map(_same, found[0], inputs)):
        return found[1]
    made: list[Array] | None = compute()
    if made is not None:
        known[name] = inputs, made
    return made


def _same(a: Array, b: Array) -> bool:
    if a is b:
        return True
    return a.size <= 64 and a.dtype == b.dtype and a.shape == b.shape and a.dtype != object and bool((a == b).all())


def _evaluated(operator: Operator) -> list[Array] | None:
    feeds = {
        f"i{at}": each.const for at, each in enumerate(operator.inputs) if each is not None and each.const is not None
    }
    try:
        with np.errstate(all="ignore"):  # infinities of a model are its own
            results = ReferenceEvaluator(single(operator)).run(None, feeds)
    except _REFUSALS:  # what the reference cannot compute is left to the device or the host
        return None
    if any(not isinstance(each, (np.ndarray, np.generic)) or np.size(each) > _LARGEST for each in results):
        return None
    return [np.asarray(each) for each in results]


def expand(operator: Operator, functions: Mapping[tuple[str, str], onnx.FunctionProto]) -> onnx.FunctionProto | None:
    """The nodes that define an operator, its attributes put in: a function of the file, or of ONNX's own schema."""
    key = (operator.node.domain, operator.type)
    return body_of_function(operator, functions[key]) if key in functions else body_of_schema(operator)
