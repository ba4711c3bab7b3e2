"""Names of dims as a file declares them: symbols, sums of products of symbols, or nothing."""

from __future__ import annotations

import re
from collections.abc import Iterable

import onnx

from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.sums import Sum, parse_sum, sum_of

__all__ = ["Declared", "identifier"]

_NAME = re.compile(r"[A-Za-z_]\w*\Z")


class Declared:
    """What the dims of a model's inputs are called.

    A text such as `2 * S + 1` is a sum where each of its symbols is a dim of an input by itself; otherwise it names a symbol of
    its own.
    """

    def __init__(self, inputs: Iterable[onnx.ValueInfoProto]) -> None:
        texts = {dim.dim_param for info in inputs for dim in info.type.tensor_type.shape.dim}
        self._alone = {text for text in texts if _NAME.match(text)}
        self._names: dict[str, str] = {text: text for text in self._alone}

    def size(self, name: str, axis: int, dim: onnx.TensorShapeProto.Dimension) -> Sum:
        """The dim of an axis of an input. A size below zero is taken for one that is not known."""
        if dim.HasField("dim_value") and dim.dim_value >= 0:
            return sum_of(dim.dim_value)
        text = dim.dim_param or f"{name}_{axis}"
        if not dim.dim_param or _NAME.match(text):
            return sum_of(text if dim.dim_param else self._name(f"{name} {axis}", text))
        try:
            found = parse_sum(text)
        except CompileError:
            return sum_of(self._name(text, text))
        return found if found.symbols() <= self._alone else sum_of(self._name(text, text))

    def claimed(self, dim: onnx.TensorShapeProto.Dimension) -> Sum | None:
        """What a dim of an output is declared to be, in dims of the inputs; None of a name that no input has, and of none."""
        if dim.HasField("dim_value"):
            return sum_of(dim.dim_value) if dim.dim_value >= 0 else None
        if dim.dim_param in self._names:
            return sum_of(self._names[dim.dim_param])
        try:
            found = parse_sum(dim.dim_param)
        except CompileError:
            return None
        return found if found.symbols() <= self._alone else None

    def _name(self, key: str, text: str) -> str:
        """An identifier that no other text has."""
        if key not in self._names:
            made = identifier(text)
            while made in self._names.values():
                made += "_"
            self._names[key] = made
        return self._names[key]


def identifier(name: str) -> str:
    """A name that a graph of the compiler takes."""
    made = re.sub(r"\W", "_", name, flags=re.ASCII)
    return made if made[:1].isalpha() or made[:1] == "_" else f"_{made}"
