"""Tensor types of the graph: a dtype and dims that are integers or named symbols."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from npuvm.compiler.errors import CompileError

__all__ = ["DTYPES", "DTypeInfo", "Dim", "TensorType", "dims_text", "parse_dims", "parse_type"]

Dim = int | str
"""A dimension: a size known now, or the name of one that a concrete shape gives."""

_TYPE = re.compile(r"\s*([A-Za-z_]\w*)\s*\[([^\]]*)\]\s*\Z")
_SYMBOL = re.compile(r"[A-Za-z_]\w*\Z")


@dataclass(frozen=True, slots=True)
class DTypeInfo:
    """What the compiler knows of a dtype. `item_bytes` is its size in memory; `kind` is float, int or bool."""

    name: str
    item_bytes: int
    kind: str
    numpy: np.dtype[Any]
    low_precision: bool = False


DTYPES: Mapping[str, DTypeInfo] = {
    info.name: info
    for info in (
        DTypeInfo("fp32", 4, "float", np.dtype(np.float32)),
        DTypeInfo("fp16", 2, "float", np.dtype(np.float16), low_precision=True),
        DTypeInfo("bf16", 2, "float", np.dtype(ml_dtypes.bfloat16), low_precision=True),
        DTypeInfo("int32", 4, "int", np.dtype(np.int32)),
        DTypeInfo("int8", 1, "int", np.dtype(np.int8)),
        DTypeInfo("fp8_e4m3", 1, "float", np.dtype(ml_dtypes.float8_e4m3fn), low_precision=True),
        DTypeInfo("fp8_e5m2", 1, "float", np.dtype(ml_dtypes.float8_e5m2), low_precision=True),
        DTypeInfo("bool", 1, "bool", np.dtype(np.bool_)),
    )
}
"""The dtypes of tensors, by name."""


@dataclass(frozen=True, slots=True)
class TensorType:
    """`dtype[d0, d1, ...]`; rank 0 is a scalar. Raises CompileError on an unknown dtype or a dim that is none."""

    dtype: str
    shape: tuple[Dim, ...]

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise CompileError(f"unknown dtype '{self.dtype}'; allowed: {', '.join(DTYPES)}")
        for dim in self.shape:
            if isinstance(dim, str):
                if not _SYMBOL.match(dim):
                    raise CompileError(f"'{dim}' is no dimension name; a name is letters, digits and _")
            elif dim < 0:
                raise CompileError(f"dimension {dim!r} must be an integer >= 0 or a name")

    @property
    def info(self) -> DTypeInfo:
        """What the compiler knows of the dtype."""
        return DTYPES[self.dtype]

    @property
    def rank(self) -> int:
        """Number of dims."""
        return len(self.shape)

    def with_dtype(self, dtype: str) -> TensorType:
        """The same shape in another dtype. Raises CompileError when it is unknown."""
        return TensorType(dtype, self.shape)

    def __str__(self) -> str:
        return f"{self.dtype}[{dims_text(self.shape)}]"


def dims_text(dims: Sequence[Dim]) -> str:
    """The printed form of a list of dims: `M, 768`."""
    return ", ".join(str(dim) for dim in dims)


def parse_dims(text: str) -> tuple[Dim, ...]:
    """Dims from `"M, 12, -1"`; -1 is passed through for `reshape`. Raises CompileError."""
    if not text.strip():
        return ()
    dims: list[Dim] = []
    for raw in text.split(","):
        part = raw.strip()
        if re.fullmatch(r"-?\d+", part):
            dims.append(int(part))
        elif _SYMBOL.match(part):
            dims.append(part)
        else:
            raise CompileError(f"'{part}' in '[{text}]' is no dimension; use an integer or a name")
    return tuple(dims)


def parse_type(text: str) -> TensorType:
    """A type from `"fp16[M, 768]"`. Raises CompileError."""
    match = _TYPE.match(text)
    if match is None:
        raise CompileError(f"'{text}' is no tensor type; write it as dtype[dim, ...], for example fp16[M, 768]")
    return TensorType(match.group(1), parse_dims(match.group(2)))
