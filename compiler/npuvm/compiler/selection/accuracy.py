"""How far an instruction is from the function that its semantics say, measured in units of its result's last place."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import numpy.typing as npt

from npuvm.compiler.selection.patterns import Pattern
from npuvm.isa import Isa
from npuvm.isa.numerics import convert, to_compute
from npuvm.isa.semantics import parse_semantics

__all__ = ["error_ulp"]

Array = npt.NDArray[Any]

_MEASURED: dict[tuple[str, str, tuple[str, str | None]], float] = {}


def error_ulp(isa: Isa, pattern: Pattern) -> float:
    """The largest error of an instruction of one tile against its semantics in double.

    Of 16-bit and smaller types every finite value is tried, of fp32 60,000 from 1e-30 to 1e30 of either sign.
    """
    key = isa.hash, pattern.instruction.name, pattern.dtypes
    if key not in _MEASURED:
        _MEASURED[key] = _measure(isa, pattern)
    return _MEASURED[key]


def _measure(isa: Isa, pattern: Pattern) -> float:
    instruction = pattern.instruction
    source = instruction.region_dtype(isa, instruction.operand(pattern.tiles[0]), *pattern.dtypes)
    result = isa.dtypes[pattern.result]
    names = tuple(operand.name for operand in instruction.operands)
    evaluate = parse_semantics(instruction.semantics or "", names).evaluate
    values = _samples(source.numpy)
    with np.errstate(all="ignore"):
        got = convert(np.asarray(evaluate(to_compute(values, source))), result)
        exact = np.asarray(evaluate(values.astype(np.float64)))
        rounded = convert(exact.astype(np.float64), result)
        return float(np.max(_units(got.astype(np.float64), exact, rounded.astype(np.float64), result.numpy)))


def _samples(dtype: np.dtype[Any]) -> Array:
    if dtype.itemsize <= 2:
        codes = np.arange(1 << 8 * dtype.itemsize).astype(f"u{dtype.itemsize}").view(dtype)
        return codes[np.isfinite(codes.astype(np.float32))]
    positive = np.concatenate([np.logspace(-30, 30, 10_000), np.logspace(-4, 2, 20_000)])
    return np.concatenate([-positive, positive]).astype(dtype)


def _units(got: Array, exact: Array, rounded: Array, dtype: np.dtype[Any]) -> Array:
    """Distance in units in the last place of the exact result; where that is beyond the type, it must be rounded so too."""
    info: Any = ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]  # ml_dtypes has no types here
    magnitude = np.maximum(np.abs(exact), float(info.smallest_normal))
    unit = np.exp2(np.floor(np.log2(magnitude)) - info.nmant)
    same = (got == rounded) | (np.isnan(got) & np.isnan(rounded))
    return np.where(np.isfinite(rounded), np.abs(got - exact) / unit, np.where(same, 0.0, np.inf))
