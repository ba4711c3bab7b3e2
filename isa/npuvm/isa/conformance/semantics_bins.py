"""What single instructions ought to be run on: by hand-written rules, apart from the cases."""

from __future__ import annotations

from collections.abc import Iterator

from npuvm.isa.conformance.oracle import ORACLES
from npuvm.isa.model import Instruction, Isa

__all__ = ["semantics_bins"]

_SHAPES = ("one-element", "no-rows", "no-columns", "strided-tail", "column", "pitch-0", "long")
_ALIASES = ("in-place", "shifted-overlap")
_FLOAT = ("nan", "inf", "minus-inf", "zero", "minus-zero", "subnormal", "largest")
_EDGES = {
    "fp32": _FLOAT,
    "fp16": _FLOAT,
    "bf16": _FLOAT,
    "fp8_e5m2": _FLOAT,
    "fp8_e4m3": ("nan", "zero", "minus-zero", "subnormal", "largest"),
    "int32": ("zero", "minus-one", "min", "max"),
    "int8": ("zero", "minus-one", "min", "max"),
    "bool": ("true", "false"),
}
_SIGN_OF_ZERO_IS_FREE = ("vrelu", "vmax", "vmin", "vmaxs", "vmins", "vmaxl", "vminl", "vmaxf", "vminf")
"""Nothing says which of two zeros they return, so no negative one is tried."""

_ROUNDS = ("vadd", "vsub", "vmul", "vadds", "vmuls", "vrsubs", "vsuml", "vsumf")
"""Arithmetic that meets numbers half way between two others, and overflows or wraps."""

_WRAPS = (*_ROUNDS, "vneg", "vabs")
_COMPARES = ("veq", "vne", "vlt", "vle", "vgt", "vge", "veqs", "vnes", "vlts", "vles", "vgts", "vges", "visfin")
_REDUCES = ("vsuml", "vmaxl", "vminl", "vsumf", "vmaxf", "vminf", "vprodl", "vprodf", "vargmaxl")
_OTHER_TARGET = (*_COMPARES, *_REDUCES, "vcast", "vbrc", "vdup")
"""Instructions whose target has another type or shape than their first operand, so that it cannot lie in the same place."""

_WIDENS = {("fp16", "fp32"), ("bf16", "fp32"), ("fp8_e4m3", "fp16"), ("fp8_e5m2", "fp16"), ("fp8_e4m3", "fp32")}
_WIDENS |= {("fp8_e5m2", "fp32"), ("int8", "int32"), ("int8", "fp16"), ("int8", "fp32")}
"""Casts that change no value."""


_WINDOWS = (
    "inside",
    "before-rows",
    "before-columns",
    "past-the-end",
    "three-sides",
    "all-sides",
    "outside",
    "far-outside",
)
_DMA = (
    *("one-element", "no-rows", "no-columns", "unaligned-tail", "spread-rows", "dense", "column", "row-again"),
    *(f"window-{where}" for where in _WINDOWS),
)
_MOVED = ("one-element", "no-rows", "no-columns", "tail", "column", "block", "row-again")
_MULTIPLIED = (
    "one-element",
    "no-m",
    "no-n",
    "no-k",
    "blocks",
    "tails",
    "row-by-matrix",
    "matrix-by-column",
    "extremes",
)
_OUT = ("edges", "edges-relu", "one-element", "no-rows", "no-columns", "spread-rows", "column", "window")
_OUT_ON_CHIP = ("to-ub", "to-ub-relu", "to-l1", "to-l1-relu")

_PICKED = (
    *("one-element", "no-rows", "no-columns", "whole-rows", "in-order", "again", "unaligned-tail", "column"),
    *("spread-indices", "from-the-end", "every-other-row"),
)

_WINDOWED = (
    *(
        "one-element",
        "no-rows",
        "no-columns",
        "three-by-three",
        "from-the-middle",
        "spread-pixels",
        "strides",
        "dilation",
    ),
    *("one-channel", "part-of-a-row", "beyond-the-image", "the-same-again", "left", "planes", "planes-from-the-middle"),
    *("planes-steps", "planes-beyond-the-image"),
)

_TILES = {
    "ld": _DMA,
    "st": _DMA,
    "stadd": _DMA,
    "ldx": _PICKED,
    "stx": _PICKED,
    "stxadd": _PICKED,
    "mvl0a": _MOVED,
    "mvl0at": _MOVED,
    "mvl0b": _MOVED,
    "mvl0bt": _MOVED,
    "mvl0c": _MOVED,
    "mvim2col": _WINDOWED,
    "mvim2colt": _WINDOWED,
    "mma": _MULTIPLIED,
    "mmac": _MULTIPLIED,
    "fix": (*_OUT, *_OUT_ON_CHIP),
    "fixadd": _OUT,
}
"""Kinds of tiles of the instructions that are not the vector unit's."""


def semantics_bins(isa: Isa) -> Iterator[str]:
    """The bins of every instruction that is on and has a unit: kinds of tiles; on the vector unit also values."""
    for instruction in isa.instructions.values():
        if not isa.features[instruction.feature] or instruction.unit in ("seq", "any"):
            continue
        if instruction.unit == "vector" and instruction.name in ORACLES:
            yield from _vector(instruction)
        elif instruction.name in _TILES:
            yield from _moved(instruction)
        else:
            yield from _derived(isa, instruction)


def _types(instruction: Instruction) -> Iterator[tuple[str, str | None, str]]:
    """The pairs of types of an instruction, and the begin of their bins."""
    for dtype, dtype2 in instruction.dtypes:
        yield dtype, dtype2, f"semantics/{instruction.name}/{dtype if dtype2 is None else f'{dtype}->{dtype2}'}"


def _moved(instruction: Instruction) -> Iterator[str]:
    for _, dtype2, prefix in _types(instruction):
        for what in _TILES[instruction.name]:
            # No instruction brings int32 from L1 back to where it can be seen.
            if not (dtype2 == "int32" and what.startswith("to-l1")):
                yield f"{prefix}/{what}"


def _derived(isa: Isa, instruction: Instruction) -> Iterator[str]:
    """What an instruction without an oracle of its own is run on: tiles of every kind, the edges of what it reads."""
    target = next(region for region in instruction.regions if region.role != "read")
    reads = [region for region in instruction.regions if region.role == "read"]
    text = instruction.semantics or ""
    for dtype, dtype2, prefix in _types(instruction):
        kinds = [instruction.region_dtype(isa, region, dtype, dtype2).name for region in reads]
        alias = bool(reads) and reads[0].shape == target.shape
        alias = alias and kinds[0] == instruction.region_dtype(isa, target, dtype, dtype2).name
        edges = {what for kind in kinds for what in _EDGES.get(kind, ())}
        if "max" in text or "min" in text:
            edges.discard("minus-zero")
        for what in (*_SHAPES, *(_ALIASES if alias else ()), *sorted(edges)):
            yield f"{prefix}/derived-{what}"


def _vector(instruction: Instruction) -> Iterator[str]:
    name = instruction.name
    for dtype, dtype2, prefix in _types(instruction):
        yield from (f"{prefix}/{what}" for what in _SHAPES)
        if name in ("vdup", "viota"):
            continue
        if name not in _OTHER_TARGET:
            yield from (f"{prefix}/{what}" for what in _ALIASES)
        free = ("minus-zero",) if name in _SIGN_OF_ZERO_IS_FREE else ()
        yield from (f"{prefix}/{what}" for what in _EDGES.get(dtype, ()) if what not in free)
        yield from (f"{prefix}/{what}" for what in _storing(name, dtype, dtype2))


def _storing(name: str, dtype: str, dtype2: str | None) -> Iterator[str]:
    """What storing results must have met."""
    if name == "vcast" and dtype2 is not None:
        if dtype == "bool" or (dtype, dtype2) in _WIDENS or dtype2 == "bool":
            return
        if dtype2.startswith("int"):
            yield "saturation"
        else:
            yield "tie"
    elif dtype.startswith("int"):
        if name in _WRAPS:
            yield "wrap"
    elif name in _ROUNDS:
        yield from ("tie", "overflow")
    if name == "vexp" and dtype != "int32":
        yield "overflow"
