"""Inputs of a model from what a person says of them: dims or files by name; the rest follows from sizes that are known."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from npuvm.compiler.graph.model import Model
from npuvm.runtime.session.binding import LARGEST_DIM, available, derive
from npuvm.runtime.session.carrying import Array, numpy_dtype
from npuvm.runtime.session.errors import SessionError

__all__ = ["DATA", "InputSpec", "arrays_of", "free_symbols", "parse_input", "runs_of", "shapes_at", "shapes_of"]

DATA = ("random", "zeros")

_SPEC = re.compile(r"(?P<name>[^=]+)=(?:@(?P<file>.+)|(?P<dims>[\d,?x ]*)(?::(?P<dtype>\w+))?)\Z")


@dataclass(frozen=True, slots=True)
class InputSpec:
    """An input: the file with its data, or its dims, None where they follow from the model. `dtype` is only checked."""

    name: str
    dims: tuple[int | None, ...] = ()
    dtype: str = ""
    file: Path | None = None


def parse_input(text: str) -> InputSpec:
    """`x=1,16`, `x=1,?`, `ids=2,16:int64`, `s=` for a scalar, or `x=@data.npy`. SessionError for anything else."""
    found = _SPEC.match(text)
    if found is None:
        raise SessionError(f"input {text!r}; allowed: NAME=DIMS, NAME=DIMS:DTYPE, NAME=@FILE.npy, as x=1,16 or x=1,?")
    if found["file"] is not None:
        return InputSpec(found["name"], file=Path(found["file"]))
    parts = [part.strip() for part in re.split("[,x]", found["dims"])] if found["dims"].strip() else []
    if any(not (part == "?" or part.isdigit()) for part in parts):
        raise SessionError(f"input {text!r}: dims are numbers or ?, as in x=1,16 or x=1,?")
    dims = tuple(None if part == "?" else int(part) for part in parts)
    return InputSpec(found["name"], dims, found["dtype"] or "")


def runs_of(specs: Sequence[InputSpec], model: Model) -> list[dict[str, InputSpec]]:
    """The inputs of each run: the n-th that is said of an input is for run n, the only one for all runs.

    SessionError for an input that the model does not have, and for counts that do not agree.
    """
    by_name: dict[str, list[InputSpec]] = {}
    for spec in specs:
        if spec.name not in model.inputs:
            raise SessionError(f"the model has no input '{spec.name}'; inputs: {', '.join(model.inputs)}", model.name)
        by_name.setdefault(spec.name, []).append(spec)
    count = max(map(len, by_name.values()), default=1)
    for name, given in by_name.items():
        if len(given) not in (1, count):
            raise SessionError(
                f"input '{name}' is given {len(given)} times, another one {count} times; allowed: 1 or {count}",
                model.name,
            )
    return [{name: given[run if len(given) > 1 else 0] for name, given in by_name.items()} for run in range(count)]


def arrays_of(
    run: Mapping[str, InputSpec], model: Model, rng: np.random.Generator | None, ranges: Mapping[str, tuple[int, int]]
) -> dict[str, Array]:
    """Data for one run: that of files, otherwise random numbers, zeros without `rng`.

    Floats are normally distributed, integers lie in `ranges` by name of the input, the last number left out, or are 0 and 1.
    SessionError for ranges of what is no input of integers, or beyond its dtype.
    """
    for name, between in ranges.items():
        _check_range(name, between, model)
    files = {name: _load(spec) for name, spec in run.items() if spec.file is not None}
    shapes = shapes_of(run, model, {name: each.shape for name, each in files.items()})
    made = dict(files)
    for name in model.inputs:
        if name not in files:
            made[name] = _data(shapes[name], model.values[name].dtype, rng, ranges.get(name, (0, 2)))
    return {name: made[name] for name in model.inputs}


def _check_range(name: str, between: tuple[int, int], model: Model) -> None:
    if name not in model.inputs:
        allowed = ", ".join(model.inputs) or "none"
        raise SessionError(f"a range of '{name}', but the model has no such input; inputs: {allowed}", model.name)
    dtype = model.values[name].dtype
    target = numpy_dtype(dtype)
    if target.kind not in "iu":
        raise SessionError(f"a range of '{name}', which is {dtype}; allowed: inputs of integers", model.name)
    ends = np.iinfo(target)
    if between[0] < ends.min or between[1] - 1 > ends.max:
        text = f"{between[0]}:{between[1]}"
        raise SessionError(f"a range of '{name}' is {text}; {dtype} holds {ends.min} to {ends.max}", model.name)


def shapes_of(
    run: Mapping[str, InputSpec], model: Model, known: Mapping[str, tuple[int, ...]] | None = None
) -> dict[str, tuple[int, ...]]:
    """The shapes of all inputs; dims that nobody says are those of the model, or of inputs that share their symbol.

    SessionError naming what is still open.
    """
    known = dict(known or {})
    sizes: dict[str, int] = {}
    given: dict[str, tuple[int | None, ...]] = {}
    for name in model.inputs:
        kind, spec = model.values[name], run.get(name)
        if spec is not None and spec.dtype and spec.dtype != kind.dtype:
            raise SessionError(f"input '{name}' must be {kind.dtype}, not {spec.dtype}", model.name)
        if name in known:
            given[name] = known[name]
        elif spec is not None:
            given[name] = spec.dims
        else:
            given[name] = (None,) * len(kind.shape or ())
        if kind.shape is not None and len(given[name]) != len(kind.shape):
            raise SessionError(
                f"input '{name}' is {kind}, of rank {len(kind.shape)}, not {len(given[name])}", model.name
            )
        for dim, size in zip(kind.shape or (), given[name], strict=False):
            if isinstance(dim, str) and size is not None:
                sizes.setdefault(dim, size)
    return {name: _closed(name, given[name], model, sizes) for name in model.inputs}


def free_symbols(model: Model) -> tuple[str, ...]:
    """The symbols in dims of a model's inputs that follow from no others, in their order."""
    derived = {each.name for each in model.derived}
    dims = (dim for name in model.inputs for dim in model.values[name].shape or ())
    return tuple(dict.fromkeys(dim for dim in dims if isinstance(dim, str) and dim not in derived))


def shapes_at(model: Model, sizes: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    """The shapes of all inputs for a number for each of `free_symbols`.

    SessionError where one is missing, or has no meaning for the model, or an input has no known rank.
    """
    symbols = free_symbols(model)
    allowed = f"symbols of its inputs: {', '.join(symbols) or 'none'}"
    for name in symbols:
        if name not in sizes:
            raise SessionError(f"symbol '{name}' has no size; {allowed}", model.name)
    for name in sizes:
        if name not in symbols:
            raise SessionError(f"the model has no symbol '{name}' that can be given a size; {allowed}", model.name)
    binding = dict(sizes)
    derive(available(model.derived, binding), binding)
    shapes: dict[str, tuple[int, ...]] = {}
    for name in model.inputs:
        dims = model.values[name].shape
        if dims is None:
            raise SessionError(f"input '{name}' has no known rank; give its shape itself", model.name)
        shapes[name] = tuple(dim if isinstance(dim, int) else binding[dim] for dim in dims)
    return shapes


def _closed(name: str, dims: Sequence[int | None], model: Model, sizes: Mapping[str, int]) -> tuple[int, ...]:
    kind = model.values[name]
    found = []
    for axis, size in enumerate(dims):
        dim = None if kind.shape is None else kind.shape[axis]
        if size is None:
            size = dim if isinstance(dim, int) else sizes.get(str(dim))
        if size is None:
            raise SessionError(
                f"input '{name}', dim {axis} ({dim}) has no size; say it with --input {name}=..", model.name
            )
        if size > LARGEST_DIM:
            raise SessionError(f"input '{name}', dim {axis} is {size}; allowed: 0 to {LARGEST_DIM}", model.name)
        found.append(size)
    return tuple(found)


def _load(spec: InputSpec) -> Array:
    assert spec.file is not None
    try:
        loaded = np.load(spec.file, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise SessionError(f"input '{spec.name}': no array can be read: {error}", str(spec.file)) from None
    if not isinstance(loaded, np.ndarray):
        raise SessionError(f"input '{spec.name}': allowed is a file with one array (.npy)", str(spec.file))
    return loaded


def _data(shape: tuple[int, ...], dtype: str, rng: np.random.Generator | None, between: tuple[int, int]) -> Array:
    target = numpy_dtype(dtype)
    if target.kind == "O":
        raise SessionError(f"inputs of {dtype} cannot be made up; allowed: a file")
    if rng is None:
        return np.zeros(shape, target)
    if target.kind in "iu" or target.kind == "b":
        return rng.integers(*between, size=shape).astype(target)
    return rng.standard_normal(shape).astype(target)
