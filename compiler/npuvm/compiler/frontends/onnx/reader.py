"""Opens ONNX models: files, external data, versions of operator sets; and reads them until nothing new is deduced."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from google.protobuf.message import DecodeError
from onnx import checker, defs, external_data_helper, numpy_helper, parser

from npuvm.compiler.deduction import LARGEST_SIZE, Contradiction, Deduced, Deduction
from npuvm.compiler.errors import CompileError
from npuvm.compiler.frontends.onnx.folding import Folded
from npuvm.compiler.frontends.onnx.lowering import Lowering
from npuvm.compiler.frontends.onnx.symbols import Declared
from npuvm.compiler.graph.carriers import NARROWED
from npuvm.compiler.graph.model import Model

__all__ = ["OLDEST_OPSET", "Reader", "import_model", "load_model"]

OLDEST_OPSET = 13
"""The oldest version of ONNX's own operators that is read as it is; older ones are converted to it."""

_MOST_READINGS = 1000


def load_model(path: Path | str) -> onnx.ModelProto:
    """The model of a file, with its external data; one that ends in .onnxtxt has ONNX's text. CompileError when it is none."""
    file = Path(path)
    if not file.is_file():
        raise CompileError(f"no file '{file}'; allowed: an ONNX model")
    try:
        if file.suffix == ".onnxtxt":  # onnx.load warns of this format
            proto = parser.parse_model(file.read_text(encoding="utf-8"))
        else:
            proto = onnx.load(file, load_external_data=False)
    except (DecodeError, ValueError, parser.ParseError) as error:
        raise CompileError(f"'{file}' is no ONNX model: {error}") from None
    except OSError as error:
        raise CompileError(f"'{file}' cannot be read: {error.strerror}") from None
    try:
        external_data_helper.load_external_data_for_model(proto, str(file.parent))
    except (OSError, ValueError, checker.ValidationError) as error:
        raise CompileError(f"the data of '{file}' that lies in other files cannot be read: {error}") from None
    return proto


def import_model(
    proto: onnx.ModelProto, fixed: Mapping[str, int] | None = None, *, any_integers: bool = False
) -> Model:
    """A model on symbols. `fixed` gives sizes of symbols, which are numbers in it then.

    int64 inputs are taken to hold no more than `LARGEST_SIZE`, positive or negative, unless they are `any_integers`.

    CompileError for a model that is malformed, has an operator set that the onnx package does not know, or needs of its sizes
    what cannot be.
    """
    return Reader(proto).read(fixed, any_integers=any_integers)


class Reader:
    """Reads one model any number of times; a constant is the same array in all that it gives.

    CompileError for a model without outputs, or with an operator set that the onnx package does not know.
    """

    def __init__(self, proto: onnx.ModelProto) -> None:
        if not proto.graph.output:
            raise CompileError("the model has no outputs; allowed: one at least", proto.graph.name or None)
        self._proto, self._opsets = _of_known_opset(proto)
        self._constants = dict(_constants(self._proto))
        self._declared = Declared(self._proto.graph.input)
        self._folded = Folded()

    def read(self, fixed: Mapping[str, int] | None = None, *, any_integers: bool = False) -> Model:
        """The model on symbols, as `import_model` gives it."""
        deduction, graph = Deduction(dict(fixed or {})), self._proto.graph
        for info in graph.input:
            for axis, dim in enumerate(info.type.tensor_type.shape.dim):
                deduction.names.update(dict.fromkeys(sorted(self._declared.size(info.name, axis, dim).symbols())))
        for _ in range(_MOST_READINGS):
            try:
                return self._read_once(deduction, any_integers)
            except Deduced:
                continue
            except Contradiction:
                if not deduction.retract():
                    raise
        raise CompileError(f"sizes are still being deduced after {_MOST_READINGS} readings", graph.name or None)

    def _read_once(self, deduction: Deduction, any_integers: bool) -> Model:
        graph = self._proto.graph
        functions = {(each.domain, each.name): each for each in self._proto.functions}
        lowering = Lowering(graph.name or "model", deduction, self._opsets, functions, self._folded)
        for name, array in self._constants.items():
            lowering.add_constant(name, array)
        for info in graph.input:
            if info.name not in lowering.entries:
                entry = lowering.add_input(info, self._declared)
                if entry.dtype in NARROWED and not any_integers:
                    entry.bounds = lowering.model.taken[entry.name] = -LARGEST_SIZE, LARGEST_SIZE
            elif info.name not in self._constants:
                raise CompileError(f"there are two inputs '{info.name}'", lowering.model.name)
        lowering.read(graph.node)
        return lowering.finish(graph.output, self._declared)


def _of_known_opset(proto: onnx.ModelProto) -> tuple[onnx.ModelProto, dict[str, int]]:
    """The model in operator sets that are known, and their versions by domain."""
    opsets = {"" if each.domain == "ai.onnx" else each.domain: each.version for each in proto.opset_import}
    version, newest = opsets.get("", defs.onnx_opset_version()), defs.onnx_opset_version()
    where = proto.graph.name or None
    if version > newest:
        raise CompileError(f"operator set {version} is unknown; allowed: {OLDEST_OPSET} to {newest}", where)
    if version < 9 and any(node.op_type == "Scan" for node in proto.graph.node):
        raise CompileError("Scan of operator set 8 scans batches; allowed: Scan of operator set 9 and later", where)
    if version < OLDEST_OPSET:
        try:
            proto = onnx.version_converter.convert_version(proto, OLDEST_OPSET)
        except (RuntimeError, checker.ValidationError) as error:
            raise CompileError(
                f"operator set {version} cannot be converted to {OLDEST_OPSET}, the oldest that is read: {error}", where
            ) from None
        opsets[""] = OLDEST_OPSET
    return proto, opsets


def _constants(proto: onnx.ModelProto) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    """Initialisers by name, sparse ones filled with zeros."""
    for tensor in proto.graph.initializer:
        yield tensor.name, _array(tensor)
    for sparse in proto.graph.sparse_initializer:
        values, places = _array(sparse.values), _array(sparse.indices)
        dense = np.zeros(tuple(sparse.dims), values.dtype)
        if places.ndim == 1:
            dense.reshape(-1)[places] = values
        else:
            dense[tuple(places.T)] = values
        yield sparse.values.name, dense


def _array(tensor: onnx.TensorProto) -> npt.NDArray[Any]:
    if external_data_helper.uses_external_data(tensor):
        raise CompileError("its data lies in a file that was not read; open the model with load_model", tensor.name)
    try:
        return numpy_helper.to_array(tensor)
    except (TypeError, ValueError) as error:
        raise CompileError(f"its data is no tensor of its type and dims: {error}", tensor.name) from None
