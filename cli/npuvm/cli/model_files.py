"""Opening ONNX files for the verbs that run or look at them; the packages that they need come with an extra."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from npuvm.isa.errors import NpuvmError

if TYPE_CHECKING:
    import onnx

__all__ = ["ModelFile", "open_model"]

ModelFile: TypeAlias = Annotated[
    Path, typer.Argument(help="A model: .onnx, or .onnxtxt for ONNX's text.", show_default=False)
]


def open_model(path: Path) -> onnx.ModelProto:
    """The model of a file. NpuvmError naming the extra where onnx is missing, CompileError where there is no model."""
    if find_spec("onnx") is None:
        raise NpuvmError("ONNX models need the package onnx; install: pip install npuvm[onnx]", str(path))
    from npuvm.compiler.frontends.onnx import load_model

    return load_model(path)
