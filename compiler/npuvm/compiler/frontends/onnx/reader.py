"""Opens ONNX models: files, external data, versions of operator sets; and reads them until nothing new is deduced."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from google.protobuf.message import DecodeError

import onnx
from npuvm.compiler.deduction import Deduced, Deduction
from npuvm.compiler.errors import CompileError
from npuvm.compiler.frontends.onnx.lowering import Lowering
from npuvm.compiler.model import Model
from onnx import checker, defs, numpy_helper

__all__ = ["OLDEST_OPSET", "import_model", "load_model"]

OLDEST_OPSET = 13
"""The oldest version of ONNX's own operators that is read as it is; older ones are converted to it."""

_MOST_READINGS = 1000


def load_model(path: Path | str) -> onnx.ModelProto:
    """The model of a file, with its external data. CompileError when it is none."""
    file = Path(path)
    if not file.is_file():
        raise CompileError(f"no file '{file}'; allowed: an ONNX model")
    try:
        return onnx.load(file)
    except (DecodeError, OSError, ValueError, checker.ValidationError) as error:
        raise CompileError(f"'{file}' is no ONNX model: {error}") from None


def import_model(proto: onnx.ModelProto, fixed: Mapping[str, int] | None = None) -> Model:
    """A model on symbols. `fixed` gives sizes of symbols, which are numbers in it then.

    CompileError for a model that is malformed, or has an operator set that the onnx package does not know.
    """
    opsets = {"" if each.domain == "ai.onnx" else each.domain: each.version for each in proto.opset_import}
    version = opsets.get("", defs.onnx_opset_version())
    if version > defs.onnx_opset_version():
        raise CompileError(
            f"operator set {version} is unknown; allowed: {OLDEST_OPSET} to {defs.onnx_opset_version()}",
            proto.graph.name or None,
        )
    if version < OLDEST_OPSET:
        proto = onnx.version_converter.convert_version(proto, OLDEST_OPSET)
        opsets[""] = OLDEST_OPSET
    deduction = Deduction(dict(fixed or {}))
    for _ in range(_MOST_READINGS):
        try:
            return _read(proto, opsets, deduction)
        except Deduced:
            continue
    raise CompileError(f"sizes are still being deduced after {_MOST_READINGS} readings", proto.graph.name or None)


def _read(proto: onnx.ModelProto, opsets: Mapping[str, int], deduction: Deduction) -> Model:
    functions = {(each.domain, each.name): each for each in proto.functions}
    lowering = Lowering(proto.graph.name or "model", deduction, opsets, functions)
    for tensor in proto.graph.initializer:
        lowering.add_constant(tensor.name, numpy_helper.to_array(tensor))
    for info in proto.graph.input:
        if info.name not in lowering.entries:
            lowering.add_input(info)
    lowering.read(proto.graph.node)
    return lowering.finish(proto.graph.output)
