"""What single instructions ought to be run on, listed from the instruction set by hand-written rules and apart from the cases."""

from __future__ import annotations

from collections.abc import Iterator

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
_FROM_AN_IMMEDIATE = ("vdup",)
_OTHER_TARGET = (
    "visfin",
    "vcast",
    "vbrc",
    "vdup",
    "veq",
    "vne",
    "vlt",
    "vle",
    "vgt",
    "vge",
    "veqs",
    "vnes",
    "vlts",
    "vles",
)
_OTHER_TARGET += ("vgts", "vges", "vsuml", "vmaxl", "vminl", "vsumf", "vmaxf", "vminf")
"""Instructions whose target has another type or shape than their first operand, so that it cannot lie in the same place."""

_WIDENS = {("fp16", "fp32"), ("bf16", "fp32"), ("fp8_e4m3", "fp16"), ("fp8_e5m2", "fp16"), ("fp8_e4m3", "fp32")}
_WIDENS |= {("fp8_e5m2", "fp32"), ("int8", "int32"), ("int8", "fp16"), ("int8", "fp32")}
"""Casts that change no value."""


def semantics_bins(isa: Isa) -> Iterator[str]:
    """The bins of every instruction of the vector unit that is on."""
    for instruction in isa.instructions.values():
        if instruction.unit == "vector" and isa.features[instruction.feature]:
            yield from _vector(instruction)


def _vector(instruction: Instruction) -> Iterator[str]:
    name = instruction.name
    for dtype, dtype2 in instruction.dtypes:
        prefix = f"semantics/{name}/{dtype if dtype2 is None else f'{dtype}->{dtype2}'}"
        yield from (f"{prefix}/{what}" for what in _SHAPES)
        if name in _FROM_AN_IMMEDIATE:
            continue
        if name not in _OTHER_TARGET:
            yield from (f"{prefix}/{what}" for what in _ALIASES)
        free = ("minus-zero",) if name in _SIGN_OF_ZERO_IS_FREE else ()
        yield from (f"{prefix}/{what}" for what in _EDGES[dtype] if what not in free)
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
