"""What every vector instruction of the base set computes, written by hand from its one-line description.

Nothing here reads the instruction set: not its semantics, not its functions, not its numerics. Floats are calculated in
float64 and rounded to fp32, the compute type, and then to the type of the result; that is what single precision gives, for
float64 has more than twice its digits. Integers are calculated in int64 and wrapped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from npuvm.isa.conformance.oracle_numbers import FLOATS, Array, converted, rounded, stored, storing, wide

__all__ = ["ORACLES", "Expectation", "Operands", "immediate"]


@dataclass(frozen=True)
class Operands:
    """The operands of one instruction: tiles in their storage types, immediates as raw 32 bits, the data types, sizes.

    `notes` collects what storing the results came across: "tie", "overflow", "wrap", "saturation".
    """

    tiles: Mapping[str, Array]
    plain: Mapping[str, int]
    dtype: str
    dtype2: str | None = None
    notes: set[str] = field(default_factory=set)
    sizes: Mapping[str, int] = field(default_factory=dict)

    def value(self, name: str) -> Array:
        """A tile as float64, int64 or bool."""
        return wide(self.tiles[name])

    def imm(self) -> Array:
        """The immediate `imm` likewise."""
        return immediate(self.plain["imm"], self.dtype)

    @property
    def is_float(self) -> bool:
        """Whether it calculates with floats."""
        return self.dtype in FLOATS


Rule: TypeAlias = Callable[[Operands], Array]


@dataclass(frozen=True)
class Expectation:
    """What an instruction gives: `rule` makes the stored result, which is right within `tolerance` units of the last place."""

    rule: Rule
    tolerance: int = 0


def immediate(bits: int, dtype: str) -> Array:
    """A 32-bit immediate as float64, int64 or bool: an fp32 number for floats, two's complement for integers."""
    raw = np.array(bits, dtype=np.uint32)
    if dtype in FLOATS:
        return raw.view(np.float32).astype(np.float64)
    if dtype == "bool":
        truth: Array = raw != 0
        return truth
    return raw.view(np.int32).astype(np.int64)


def _computed(values: Array, op: Operands) -> Array:
    """Results of calculation as stored: floats through the compute type."""
    result = stored(rounded(values, "fp32") if op.is_float else values, op.dtype)
    op.notes.update(storing(values, result, op.dtype))
    return result


def _unary(function: Callable[[Array], Array]) -> Rule:
    return lambda op: _computed(function(op.value("a")), op)


def _binary(function: Callable[[Array, Array], Array]) -> Rule:
    return lambda op: _computed(function(op.value("a"), op.value("b")), op)


def _with_imm(function: Callable[[Array, Array], Array]) -> Rule:
    return lambda op: _computed(function(op.value("a"), op.imm()), op)


def _compare(function: Callable[[Array, Array], Array]) -> Rule:
    return lambda op: function(op.value("a"), op.value("b"))


def _compare_imm(function: Callable[[Array, Array], Array]) -> Rule:
    return lambda op: function(op.value("a"), op.imm())


def _larger(a: Array, b: Array) -> Array:
    """The larger of two; NaN when one is NaN."""
    return np.where((a != a) | (b != b), a + b, np.where(a > b, a, b))


def _smaller(a: Array, b: Array) -> Array:
    return np.where((a != a) | (b != b), a + b, np.where(a < b, a, b))


def _reciprocal_root(a: Array) -> Array:
    return 1.0 / rounded(np.sqrt(a), "fp32")


def _not(a: Array) -> Array:
    return ~a


def _column_sum(op: Operands) -> Array:
    return _computed(op.value("a").sum(axis=0, keepdims=True), op)


def _row_sum(op: Operands) -> Array:
    return _computed(op.value("a").sum(axis=1, keepdims=True), op)


def _product(axis: int) -> Rule:
    """One factor after the other, each product rounded to the compute type."""

    def rule(op: Operands) -> Array:
        slices = np.moveaxis(op.value("a"), axis, 0)
        found = slices[0]
        for each in slices[1:]:
            found = _within(found * each, op)
        return _computed(np.expand_dims(found, axis), op)

    return rule


def _prefix_sums(axis: int) -> Rule:
    """Sums of one element more each time, rounded to the compute type, and then the start added."""

    def rule(op: Operands) -> Array:
        slices = np.moveaxis(op.value("a"), axis, 0)
        sums = [slices[0]]
        for each in slices[1:]:
            sums.append(_within(sums[-1] + each, op))
        return _computed(np.moveaxis(np.stack(sums), 0, axis) + op.value("b"), op)

    return rule


def _within(values: Array, op: Operands) -> Array:
    """In the compute type."""
    return rounded(values, "fp32") if op.is_float else stored(values, "int32").astype(np.int64)


def _numbers(op: Operands) -> Array:
    """imm + step * n for n from start on."""
    count = (op.sizes["start"] + np.arange(op.sizes["cols"]))[None, :]
    step = immediate(op.plain["step"], op.dtype)
    return _computed(op.imm() + _within(step * count, op), op)


def _place_of_maximum(op: Operands) -> Array:
    """Row by row: the place of the first NaN, else of the first of the largest."""
    places = []
    for row in op.value("a"):
        wrong = [at for at, value in enumerate(row) if value != value]
        places.append([wrong[0] if wrong else row.tolist().index(max(row.tolist()))])
    return np.array(places, dtype=np.int32)


def _extreme(pick: Callable[[Array, Array], Array], axis: int) -> Rule:
    def rule(op: Operands) -> Array:
        slices = np.moveaxis(op.value("a"), axis, 0)
        found = slices[0]
        for each in slices[1:]:
            found = pick(found, each)
        return _computed(np.expand_dims(found, axis), op)

    return rule


def _cast(op: Operands) -> Array:
    values, target = op.value("a"), op.dtype2 or ""
    result = converted(values, target)
    op.notes.update(storing(values, result, target, "saturation"))
    return result


def _broadcast(op: Operands) -> Array:
    return op.tiles["a"]


def _fill(op: Operands) -> Array:
    return converted(op.imm(), op.dtype).reshape(1, 1)


def _select(op: Operands) -> Array:
    return np.where(op.tiles["c"], op.tiles["a"], op.tiles["b"])


_ULP = 1
"""exp, log and powers: the description names no rounding, so a last place is free."""

ORACLES: Mapping[str, Expectation] = {
    "vmov": Expectation(lambda op: op.tiles["a"]),
    "vneg": Expectation(_unary(lambda a: -a)),
    "vabs": Expectation(_unary(lambda a: np.where(a < 0, -a, np.where(a == 0, 0, a)))),
    "vexp": Expectation(_unary(np.exp), _ULP),
    "vlog": Expectation(_unary(np.log), _ULP),
    "vsqrt": Expectation(_unary(np.sqrt)),
    "vrsqrt": Expectation(_unary(_reciprocal_root)),
    "vrec": Expectation(_unary(lambda a: 1.0 / a)),
    "vrelu": Expectation(_unary(lambda a: np.where(a < 0, 0, a))),
    "vfloor": Expectation(_unary(np.floor)),
    "vceil": Expectation(_unary(np.ceil)),
    "vrint": Expectation(_unary(np.rint)),
    "vtrunc": Expectation(_unary(np.trunc)),
    "vnot": Expectation(_unary(_not)),
    "visfin": Expectation(lambda op: np.abs(op.value("a")) < np.inf),
    "vcast": Expectation(_cast),
    "vbrc": Expectation(_broadcast),
    "vdup": Expectation(_fill),
    "vadd": Expectation(_binary(lambda a, b: a + b)),
    "vsub": Expectation(_binary(lambda a, b: a - b)),
    "vmul": Expectation(_binary(lambda a, b: a * b)),
    "vdiv": Expectation(_binary(lambda a, b: a / b)),
    "vmax": Expectation(_binary(_larger)),
    "vmin": Expectation(_binary(_smaller)),
    "vpow": Expectation(_binary(lambda a, b: a**b), _ULP),
    "vand": Expectation(_binary(lambda a, b: a & b)),
    "vor": Expectation(_binary(lambda a, b: a | b)),
    "vxor": Expectation(_binary(lambda a, b: a ^ b)),
    "veq": Expectation(_compare(lambda a, b: a == b)),
    "vne": Expectation(_compare(lambda a, b: a != b)),
    "vlt": Expectation(_compare(lambda a, b: a < b)),
    "vle": Expectation(_compare(lambda a, b: a <= b)),
    "vgt": Expectation(_compare(lambda a, b: a > b)),
    "vge": Expectation(_compare(lambda a, b: a >= b)),
    "vsel": Expectation(_select),
    "vadds": Expectation(_with_imm(lambda a, s: a + s)),
    "vmuls": Expectation(_with_imm(lambda a, s: a * s)),
    "vmaxs": Expectation(_with_imm(_larger)),
    "vmins": Expectation(_with_imm(_smaller)),
    "vrsubs": Expectation(_with_imm(lambda a, s: s - a)),
    "vdivs": Expectation(_with_imm(lambda a, s: a / s)),
    "vrdivs": Expectation(_with_imm(lambda a, s: s / a)),
    "vpows": Expectation(_with_imm(lambda a, s: a**s), _ULP),
    "veqs": Expectation(_compare_imm(lambda a, s: a == s)),
    "vnes": Expectation(_compare_imm(lambda a, s: a != s)),
    "vlts": Expectation(_compare_imm(lambda a, s: a < s)),
    "vles": Expectation(_compare_imm(lambda a, s: a <= s)),
    "vgts": Expectation(_compare_imm(lambda a, s: a > s)),
    "vges": Expectation(_compare_imm(lambda a, s: a >= s)),
    "vsuml": Expectation(_row_sum),
    "vmaxl": Expectation(_extreme(_larger, 1)),
    "vminl": Expectation(_extreme(_smaller, 1)),
    "vsumf": Expectation(_column_sum),
    "vmaxf": Expectation(_extreme(_larger, 0)),
    "vminf": Expectation(_extreme(_smaller, 0)),
    "vprodl": Expectation(_product(1)),
    "vprodf": Expectation(_product(0)),
    "viota": Expectation(_numbers),
    "vscanl": Expectation(_prefix_sums(1)),
    "vscanf": Expectation(_prefix_sums(0)),
    "vargmaxl": Expectation(_place_of_maximum),
}
"""By mnemonic. Sums are exact here: their tiles hold numbers whose sums are, in any order."""
