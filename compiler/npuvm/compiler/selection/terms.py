"""The normal form in which meanings are compared: those of instructions, and those of the operations of a graph.

A term is one way to write a value. Every rewriting done here keeps the value to the last bit, so two equal terms round
equally; roundings themselves are terms: an fp16 addition is `cast(fp16, add(cast(fp32, x), cast(fp32, y)))`, since the vector
unit computes in fp32 and rounds once.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from math import frexp, isfinite

import numpy as np

from npuvm.compiler.graph.ir import Node
from npuvm.compiler.graph.ops import COMPARES
from npuvm.compiler.graph.types import DTYPES

__all__ = [
    "COMMUTATIVE", "Apply", "Immediate", "Leaf", "Number", "Ref", "Scalar", "Term", "apply", "cast", "compute_type",
    "number", "same_number", "size", "type_of",
]  # fmt: skip

COMMUTATIVE = frozenset(("add", "mul", "max", "min", "and", "or", "xor", "eq", "ne"))
"""Operations whose two operands may change places."""

_MIRRORED = {"lt": "gt", "le": "ge"}


@dataclass(frozen=True, slots=True)
class Leaf:
    """A tile that an instruction reads; a `column` has one element for each row."""

    name: str
    dtype: str
    column: bool = False


@dataclass(frozen=True, slots=True)
class Immediate:
    """The immediate operand of an instruction, a number in the type that it computes in."""

    name: str
    dtype: str


@dataclass(frozen=True, slots=True)
class Number:
    """A constant; `node` is the one of a graph that it came from."""

    value: float | int | bool
    node: Node | None = field(default=None, compare=False)


@dataclass(frozen=True, slots=True)
class Scalar:
    """A number of the graph that is known when a shape is bound; `negated` stands for its opposite."""

    node: Node
    negated: bool = False


@dataclass(frozen=True, slots=True)
class Ref:
    """The value of a node of the graph."""

    node: Node


@dataclass(frozen=True, slots=True)
class Apply:
    """An operation with a result of type `dtype`; a `cast` rounds to it, everything else computes in it."""

    op: str
    dtype: str
    args: tuple[Term, ...]


Term = Leaf | Immediate | Number | Scalar | Ref | Apply


def compute_type(dtype: str) -> str:
    """The type in which the vector unit computes with values of a type."""
    return {"float": "fp32", "int": "int32", "bool": "bool"}[DTYPES[dtype].kind]


def type_of(term: Term) -> str | None:
    """The type of a term; None for a number, which takes that of its neighbours."""
    if isinstance(term, Ref):
        return term.node.type.dtype
    return term.dtype if isinstance(term, Leaf | Immediate | Apply) else None


def size(term: Term) -> int:
    """The number of operations in a term that are no casts."""
    return (term.op != "cast") + sum(map(size, term.args)) if isinstance(term, Apply) else 0


def number(node: Node) -> Number:
    """A `const` as the graph has it, rounded to its type."""
    value = np.asarray(node.number()).astype(node.type.info.numpy)
    return Number(value.astype(np.float32).item() if node.type.info.kind == "float" else value.item(), node)


def same_number(a: float | int | bool, b: float | int | bool) -> bool:
    """Whether two constants are one number in the type that is computed in; 0.0 and -0.0 are two."""
    if isinstance(a, float) or isinstance(b, float):
        with np.errstate(over="ignore"):
            return struct.pack("<f", np.float32(a)) == struct.pack("<f", np.float32(b))
    return a == b


def cast(term: Term, dtype: str) -> Term:
    """The term in another type: nothing to do where it has that type, or came from it without loss."""
    if isinstance(term, Number | Scalar) or type_of(term) == dtype:
        return term
    if isinstance(term, Apply) and term.op == "cast" and type_of(term.args[0]) == dtype and _widens(dtype, term.dtype):
        return term.args[0]
    return Apply("cast", dtype, (term,))


def _widens(narrow: str, wide: str) -> bool:
    return wide == compute_type(narrow) and DTYPES[narrow].kind != "bool"


def apply(op: str, dtype: str, args: tuple[Term, ...]) -> Term:
    """The normal form of an operation computed in the type `dtype` (that of its operands, for a comparison)."""
    zero, one = (Number(0.0), Number(1.0)) if DTYPES[dtype].kind == "float" else (Number(0), Number(1))
    first, *rest = args
    if op == "relu":
        return Apply("max", dtype, (first, zero))
    if op == "reciprocal":
        return Apply("div", dtype, (one, first))
    if op == "rsqrt":
        return Apply("div", dtype, (one, Apply("sqrt", dtype, args)))
    if op in _MIRRORED:
        return Apply(_MIRRORED[op], "bool", args[::-1])
    if op in COMPARES or op == "isfinite":
        return Apply(op, "bool", args)
    if op == "neg":
        return _negated(first, dtype)
    if len(rest) == 1 and isinstance(rest[0], Number) and not isinstance(first, Number):
        return _with_number(op, dtype, first, rest[0])
    return Apply(op, dtype, args)


def _negated(term: Term, dtype: str) -> Term:
    """A float product with a constant takes the sign into it; among integers the lowest has no opposite."""
    if isinstance(term, Number):
        return Number(-term.value)
    if isinstance(term, Apply) and term.op == "mul" and DTYPES[dtype].kind == "float":
        for at, factor in enumerate(term.args):
            if isinstance(factor, Number):
                return Apply("mul", term.dtype, (term.args[1 - at], Number(-factor.value)))
    return Apply("neg", dtype, (term,))


def _with_number(op: str, dtype: str, term: Term, constant: Number) -> Term:
    value = constant.value
    if op == "sub":
        return Apply("add", dtype, (term, Number(-value)))
    if op == "div" and _power_of_two(value):
        return Apply("mul", dtype, (term, Number(1 / value)))
    if op == "pow" and value == 2:
        return Apply("mul", dtype, (term, term))
    return Apply(op, dtype, (term, constant))


def _power_of_two(value: float) -> bool:
    """Whether dividing by the value is multiplying by its reciprocal, to the last bit."""
    mantissa, exponent = frexp(abs(value))
    return isfinite(value) and mantissa == 0.5 and abs(exponent) < 100
