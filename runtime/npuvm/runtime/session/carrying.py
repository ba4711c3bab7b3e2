"""Values between the dtypes of a model and those in which the device carries them."""

from __future__ import annotations

from typing import Any, TypeAlias

import ml_dtypes
import numpy as np
import numpy.typing as npt

from npuvm.compiler.graph.carriers import CARRIERS, NARROWED
from npuvm.compiler.graph.types import DTYPES
from npuvm.runtime.session.errors import SessionError

__all__ = ["Array", "carried", "carrier_of", "numpy_dtype", "restored"]

Array: TypeAlias = npt.NDArray[Any]


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The dtype of numpy, or ml_dtypes, for a dtype of a model by name; that of text is object."""
    if name == "string":
        return np.dtype(object)
    return np.dtype(getattr(ml_dtypes, name)) if hasattr(ml_dtypes, name) else np.dtype(name)


def carrier_of(dtype: str, name: str) -> str:
    """The device's dtype for one of the model. SessionError where there is none."""
    found = CARRIERS.get(dtype)
    if found is None:
        raise SessionError(f"'{name}' is {dtype}, which the device does not have; allowed: {', '.join(CARRIERS)}")
    return found


def carried(array: Array, dtype: str, name: str) -> Array:
    """An array of a model as the device carries it. SessionError naming the value where a number does not fit."""
    target = DTYPES[carrier_of(dtype, name)].numpy
    if dtype in NARROWED and array.size:
        bounds = np.iinfo(target)
        low, high = int(array.min()), int(array.max())
        if low < bounds.min or high > bounds.max:
            wrong = low if low < bounds.min else high
            raise SessionError(
                f"'{name}' holds {wrong}; allowed: {bounds.min} to {bounds.max}, as the device carries {dtype} in {target}"
            )
    return array if array.dtype == target else array.astype(target)


def restored(array: Array, dtype: str) -> Array:
    """An array of the device in the dtype of the model."""
    target = numpy_dtype(dtype)
    return array if array.dtype == target else array.astype(target)
