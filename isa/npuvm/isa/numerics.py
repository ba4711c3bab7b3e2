"""How values of the instruction set's data types are calculated with, converted and rounded."""

from __future__ import annotations

from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from npuvm.isa.model import DType

__all__ = ["COMPUTE_DTYPES", "convert", "immediate", "to_compute"]

Array: TypeAlias = NDArray[Any]

COMPUTE_DTYPES: dict[str, np.dtype[Any]] = {
    "fp32": np.dtype(np.float32),
    "int32": np.dtype(np.int32),
    "bool": np.dtype(np.bool_),
}
"""numpy type of each compute type that a dtype row of the instruction set may name."""

_BF16 = np.dtype(ml_dtypes.bfloat16)
_INT32 = np.dtype(np.int32)


def to_compute(values: Array, dtype: DType) -> Array:
    """Stored values of type `dtype` in its compute type; exact, no copy when the two are the same."""
    return values.astype(COMPUTE_DTYPES[dtype.compute], copy=False)


def convert(values: Array, dtype: DType) -> Array:
    """Values of any compute type as stored values of type `dtype`, rounded once.

    To float: round to nearest even. To int: truncate towards zero, saturate, NaN becomes 0. To bool: not equal to zero.
    No copy when the values have that type already. Call it under `np.errstate(all="ignore")`: overflow to infinity is a result.
    """
    target = dtype.numpy
    if values.dtype == target:
        return values
    if dtype.kind == "bool":
        truth: Array = values != 0
        return truth
    if dtype.kind == "int":
        return _to_int(values, target)
    if target == _BF16 and values.dtype == _INT32:
        return _sticky(values).astype(np.float32).astype(target)
    if values.dtype == np.float64:
        values = values.astype(np.float32)
    return values.astype(target)


def _to_int(values: Array, target: np.dtype[Any]) -> Array:
    if values.dtype.kind == "b":
        return values.astype(target)
    limits = np.iinfo(target)
    if values.dtype.kind == "i":
        return np.clip(values, limits.min, limits.max).astype(target)
    # In double the limits of int32 are exact; NaN survives the clip and is replaced.
    clipped = np.clip(values.astype(np.float64), limits.min, limits.max)
    return np.where(np.isnan(clipped), 0.0, clipped).astype(target)


def _sticky(values: Array) -> Array:
    """int32 values cut to 24 significant bits, the last one collecting what is cut.

    float32 then holds them exactly, and rounding to bfloat16 is the only rounding there is.
    """
    size = np.abs(values.astype(np.int64))
    cut = (size & ~0xFF) | np.where(size & 0xFF, 0x100, 0)
    return np.where(size >= 1 << 24, np.sign(values) * cut, values)


def immediate(bits: int, dtype: DType) -> Array:
    """An immediate operand as a (1, 1) array of the compute type of `dtype`.

    `bits` is a raw 32-bit pattern: an fp32 number for float types, a two's-complement int32 for int types, and true when
    not zero for bool.
    """
    raw = np.array([[bits]], dtype=np.uint32)
    kind = COMPUTE_DTYPES[dtype.compute]
    return raw != 0 if kind.kind == "b" else raw.view(kind)
