"""The frozen instruction set: what every consumer reads. Built by `npuvm.isa.load`, never changed afterwards."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np

from npuvm.isa.errors import IsaError

__all__ = [
    "BitField",
    "DType",
    "Insn",
    "Instruction",
    "Isa",
    "OperandKind",
    "OperandSpec",
    "Pred",
    "Space",
    "WordClass",
]


class WordClass(Enum):
    """What a word sequence is, the same in decoder, disassembler and hardware."""

    LEGAL = "legal"
    RESERVED_BITS = "reserved-bits"
    ILLEGAL_OPERAND = "illegal-operand"
    UNALLOCATED = "unallocated"
    FEATURE_OFF = "feature-off"


@dataclass(frozen=True, slots=True)
class DType:
    """A data type: `itemsize` in bytes, `compute` the type the vector unit calculates in, `acc` the cube's accumulator."""

    name: str
    code: int
    bits: int
    kind: str
    numpy: np.dtype[Any]
    compute: str
    acc: str | None

    @property
    def itemsize(self) -> int:
        """Bytes of an element."""
        return self.bits // 8


@dataclass(frozen=True, slots=True)
class Space:
    """A memory that descriptors point into. `align_bytes` 0 means the item size."""

    name: str
    code: int
    align_bytes: int
    doc: str


@dataclass(frozen=True, slots=True)
class BitField:
    """`width` bits from bit `low` of word `word` (0 is the head)."""

    word: int
    low: int
    width: int

    @property
    def mask(self) -> int:
        """The field's bits in place."""
        return ((1 << self.width) - 1) << self.low


@dataclass(frozen=True, slots=True)
class OperandKind:
    """How an operand's bits read: repr is index | uint | sint | hex | enum; an index names a table and prints with a prefix."""

    name: str
    repr: str
    table: str | None
    prefix: str


@dataclass(frozen=True, slots=True)
class OperandSpec:
    """One operand of an instruction.

    `low` and `high` are the smallest and the largest value, inclusive. A region operand (kind desc with a role) has
    `role` read | write | readwrite, the allowed `spaces`, its `shape` (names of size operands or of plain numbers, or 1),
    and `dtype`: "dtype", "dtype2", "acc" or the name of a data type.
    """

    name: str
    bits: BitField
    kind: OperandKind
    low: int
    high: int
    default: int | None
    values: Mapping[str, int]
    role: str | None
    spaces: tuple[str, ...]
    shape: tuple[str | int, ...]
    dtype: str

    @property
    def is_region(self) -> bool:
        """Whether it names data that is read or written."""
        return self.role is not None


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction: its encoding, its unit, its operands, what it means and which timing class it has.

    `dtypes` lists the allowed (dtype, dtype2) pairs; dtype2 is None without a second type field, and the tuple is empty
    for an instruction without types. `reserved` holds per word the bits that must be zero.
    """

    name: str
    opcode: int
    unit: str
    format: str
    words: int
    operands: tuple[OperandSpec, ...]
    dtypes: tuple[tuple[str, str | None], ...]
    dtype2_bits: BitField | None
    timing: str | None
    semantics: str | None
    function: str | None
    traps: tuple[str, ...]
    feature: str
    doc: str
    reserved: tuple[int, ...]
    regions: tuple[OperandSpec, ...]
    sizes: tuple[OperandSpec, ...]

    @property
    def picks_rows(self) -> bool:
        """Whether a vector of indices, operand `index`, says where its rows lie in global memory: `stride` bytes apart,
        `count` of them.
        """
        return any(region.name == "index" for region in self.regions)

    def constant(self, insn: Insn, dim: str | int) -> int | None:
        """The extent that a dimension of a shape has whatever the sizes are: 1, or that of a plain number; None for a size."""
        if isinstance(dim, int):
            return dim
        return None if any(spec.name == dim for spec in self.sizes) else insn.args[dim]

    def operand(self, name: str) -> OperandSpec:
        """The operand of that name; IsaError naming the operands there are."""
        for spec in self.operands:
            if spec.name == name:
                return spec
        raise IsaError(f"no operand {name!r}; there are: {', '.join(s.name for s in self.operands)}", self.name)

    def region_dtype(self, isa: Isa, region: OperandSpec, dtype: str | None, dtype2: str | None) -> DType:
        """Data type of a region operand in an instruction with these head types."""
        named = {"dtype": dtype, "dtype2": dtype2}.get(region.dtype, region.dtype)
        if region.dtype == "acc":
            named = isa.dtypes[dtype or ""].acc
        if named is None:
            raise IsaError(f"operand {region.name} has no type for {dtype}, {dtype2}", self.name)
        return isa.dtypes[named]


@dataclass(frozen=True, slots=True)
class Pred:
    """A predicate on loop counters; `mask` has a bit per loop."""

    kind: str
    mask: int = 0


@dataclass(frozen=True, slots=True)
class Insn:
    """A concrete instruction. `args` maps operand names to integers; operands left out take their default.

    `wait` and `set` name semaphores, at most two each; `order` waits for the unit's previous instruction to complete.
    """

    op: str
    dtype: str | None = None
    dtype2: str | None = None
    args: Mapping[str, int] = field(default_factory=dict)
    wait: tuple[int, ...] = ()
    set: tuple[int, ...] = ()
    pred: Pred | None = None
    order: bool = False

    def __hash__(self) -> int:
        return hash((self.op, tuple(sorted(self.args.items())), self.dtype, self.dtype2, self.wait, self.set))


@dataclass(frozen=True)
class Isa:
    """A frozen instruction set. `hash` is the SHA-256 of `resolved_json()`; it stands in every image and result."""

    name: str
    version: str
    extensions: tuple[str, ...]
    hash: str
    max_operand_words: int
    limits: Mapping[str, int]
    semaphore_scopes: Mapping[str, tuple[int, int]]
    dtypes: Mapping[str, DType]
    spaces: Mapping[str, Space]
    units: Mapping[str, int]
    head: Mapping[str, BitField]
    predicates: Mapping[str, int]
    features: Mapping[str, bool]
    instructions: Mapping[str, Instruction]
    by_opcode: Mapping[int, Instruction]
    primitive_timing: Mapping[str, str]
    traps: Mapping[str, str]
    resolved: Mapping[str, Any] = field(repr=False)

    def instruction(self, name: str) -> Instruction:
        """The instruction of that name; IsaError when there is none."""
        found = self.instructions.get(name)
        if found is None:
            raise IsaError(f"no instruction {name!r} in {self.name} {self.version}{self._extension_note()}")
        return found

    def semaphore_scope(self, number: int) -> str:
        """core, group or launch: the scope of a semaphore by its number."""
        for scope, (first, last) in self.semaphore_scopes.items():
            if first <= number <= last:
                return scope
        raise IsaError(f"semaphore {number} is outside 0..{self.limits['semaphores'] - 1}")

    def dtype_by_code(self, code: int) -> DType | None:
        """The data type with that head code, None when there is none."""
        return next((d for d in self.dtypes.values() if d.code == code), None)

    def resolved_json(self) -> str:
        """The resolved instruction set as canonical JSON: the public interface for other tools."""
        return json.dumps(dict(self.resolved), sort_keys=True, separators=(",", ":"))

    def _extension_note(self) -> str:
        return f" with {', '.join(self.extensions)}" if self.extensions else ""
