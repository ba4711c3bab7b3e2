"""The ONNX front end: a model with unknown dimensions becomes regions of the device on symbols."""

from __future__ import annotations

from npuvm.compiler.frontends.onnx.reader import OLDEST_OPSET, Reader, import_model, load_model
from npuvm.compiler.frontends.onnx.registry import RULES, SIZE_RULES
from npuvm.compiler.frontends.onnx.rules import MODULES

__all__ = ["MODULES", "OLDEST_OPSET", "RULES", "SIZE_RULES", "Reader", "import_model", "load_model"]
