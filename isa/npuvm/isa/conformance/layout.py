"""A second reading of the encoding rules: packs and decodes words from the resolved dictionary alone.

The suite's expectations come from here, so nothing of `npuvm.isa.codec` or of the frozen objects is used. The rules are those
of docs/reference/isa.md: classes are tried in the order unallocated, feature off, reserved bits, illegal operand.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from npuvm.isa.conformance.target import Decoded
from npuvm.isa.model import Insn, Pred, WordClass

__all__ = ["WORD", "Entry", "Field", "Layout"]

WORD = (1 << 64) - 1
"""All bits of a word."""


@dataclass(frozen=True, slots=True)
class Field:
    """Bits of one operand or head field; `low` to `high` are the values it may have, `values` those of an enumeration."""

    name: str
    word: int
    at: int
    width: int
    signed: bool = False
    low: int = 0
    high: int = 0
    values: tuple[tuple[str, int], ...] = ()
    default: int | None = None

    def put(self, value: int) -> int:
        """The field's bits in place, negative numbers in two's complement; for a word, to be added to the others."""
        return (value & (1 << self.width) - 1) << self.at

    def get(self, words: Sequence[int]) -> int:
        """The value that stands in the words."""
        raw = words[self.word] >> self.at & (1 << self.width) - 1
        return raw - (1 << self.width) if self.signed and raw >> self.width - 1 else raw

    def allows(self, value: int) -> bool:
        """Whether an operand may have this value."""
        if self.values:
            return any(value == code for _, code in self.values)
        return self.low <= value <= self.high

    def representable(self) -> range:
        """Every value that the bits can hold."""
        return range(-(1 << self.width - 1), 1 << self.width - 1) if self.signed else range(1 << self.width)


@dataclass(frozen=True, slots=True)
class Entry:
    """One instruction: opcode, operand words, unit, whether its feature is on, its operands and its pairs of types.

    `format` names its layout and `custom` says that its opcode lies in the space of extensions.
    `pairs` maps the codes in the two type fields (the second 0 where there is none) to names; it is empty without types.
    `reserved` holds per word the bits that no field has.
    """

    name: str
    opcode: int
    format: str
    custom: bool
    words: int
    unit: str
    on: bool
    operands: tuple[Field, ...]
    pairs: Mapping[tuple[int, int], tuple[str, str | None]]
    dtype2: Field | None
    reserved: tuple[int, ...]


class Layout:
    """The encoding rules of one instruction set, from `Isa.resolved`."""

    def __init__(self, resolved: Mapping[str, Any]) -> None:
        self.head = {name: Field(name, *bits) for name, bits in resolved["head"].items()}
        self.semaphores: int = resolved["limits"]["semaphores"]
        self.loops: int = resolved["limits"]["loops"]
        self.predicates: dict[str, int] = dict(resolved["predicates"])
        self._predicate_names = {code: name for name, code in self.predicates.items()}
        self.max_words: int = resolved["max_operand_words"]
        self.entries = {raw["name"]: self._entry(raw, resolved) for raw in resolved["instructions"]}
        self.by_opcode = {entry.opcode: entry for entry in self.entries.values()}

    def on(self) -> list[Entry]:
        """The instructions whose feature is on, by opcode."""
        return sorted((entry for entry in self.entries.values() if entry.on), key=lambda entry: entry.opcode)

    def off(self) -> list[Entry]:
        """The instructions whose feature is off, by opcode."""
        return sorted((entry for entry in self.entries.values() if not entry.on), key=lambda entry: entry.opcode)

    def fields(self, entry: Entry) -> list[Field]:
        """All fields of an instruction: those of the head (the type field only where it has types), then its operands."""
        head = [field for name, field in self.head.items() if name != "dtype" or entry.pairs]
        return head + ([entry.dtype2] if entry.dtype2 else []) + list(entry.operands)

    def field_at(self, entry: Entry, word: int, bit: int) -> tuple[str, int]:
        """Name of the field that has this bit and the bit's number in it; ("reserved", bit) when none has."""
        for field in self.fields(entry):
            if field.word == word and field.at <= bit < field.at + field.width:
                return field.name, bit - field.at
        return "reserved", bit

    def unit_of(self, entry: Entry, args: Mapping[str, int]) -> str:
        """The unit that executes an instruction; one for any unit names it in its operand `unit`."""
        if entry.unit != "any":
            return entry.unit
        named = next(field for field in entry.operands if field.name == "unit")
        return next(name for name, code in named.values if code == args["unit"])

    def pack(self, entry: Entry, values: Mapping[str, int]) -> list[int]:
        """Words with these values of operands and head fields, others 0; values are cut to their field, not checked.

        Opcode and length are the instruction's unless given; `dtype2` names the second type field.
        """
        words = [0] * (entry.words + 1)
        given = {"opcode": entry.opcode, "length": entry.words, **values}
        for field in self.fields(entry):
            words[field.word] |= field.put(given.get(field.name, 0))
        return words

    def values(self, insn: Insn) -> dict[str, int]:
        """The values of all fields of an instruction, operands left out at their default; what `pack` takes."""
        entry = self.entries[insn.op]
        result = {field.name: insn.args.get(field.name, field.default or 0) for field in entry.operands}
        for codes, names in entry.pairs.items():
            if names == (insn.dtype, insn.dtype2):
                result["dtype"], result["dtype2"] = codes
        for kind, numbers in (("wait", insn.wait), ("set", insn.set)):
            result |= {f"{kind}{slot}": number + 1 for slot, number in enumerate(numbers)}
        if insn.pred is not None:
            result |= {"pred": self.predicates[insn.pred.kind], "mask": insn.pred.mask}
        return result | {"order": int(insn.order)}

    def decode(self, words: Sequence[int]) -> Decoded:
        """What the instruction at the first of `words` is."""
        entry = self.by_opcode.get(self.head["opcode"].get(words))
        if entry is None or self.head["length"].get(words) != entry.words or len(words) <= entry.words:
            return Decoded(WordClass.UNALLOCATED)
        if not entry.on:
            return Decoded(WordClass.FEATURE_OFF)
        if any(words[i] & mask for i, mask in enumerate(entry.reserved)):
            return Decoded(WordClass.RESERVED_BITS)
        insn = self._insn(entry, words)
        if insn is None:
            return Decoded(WordClass.ILLEGAL_OPERAND)
        return Decoded(WordClass.LEGAL, entry.words + 1, insn, self.unit_of(entry, insn.args))

    def _insn(self, entry: Entry, words: Sequence[int]) -> Insn | None:
        args = {}
        for field in entry.operands:
            value = field.get(words)
            if not field.allows(value):
                return None
            args[field.name] = value
        types: tuple[str | None, str | None] | None = (None, None)
        if entry.pairs:
            codes = (self.head["dtype"].get(words), entry.dtype2.get(words) if entry.dtype2 else 0)
            types = entry.pairs.get(codes)
        waits, sets = (self._semaphores(kind, words) for kind in ("wait", "set"))
        kind = self._predicate_names.get(self.head["pred"].get(words))
        mask = self.head["mask"].get(words)
        if types is None or waits is None or sets is None or kind is None or (kind == "always" and mask):
            return None
        if mask >> self.loops:
            return None
        pred = None if kind == "always" else Pred(kind, mask)
        return Insn(entry.name, *types, args, waits, sets, pred, order=bool(self.head["order"].get(words)))

    def _semaphores(self, kind: str, words: Sequence[int]) -> tuple[int, ...] | None:
        first, second = (self.head[f"{kind}{slot}"].get(words) for slot in (0, 1))
        if (second and not first) or max(first, second) > self.semaphores:
            return None
        return tuple(number - 1 for number in (first, second) if number)

    def _entry(self, raw: Mapping[str, Any], resolved: Mapping[str, Any]) -> Entry:
        operands = tuple(_operand(spec, resolved) for spec in raw["operands"])
        codes = {name: entry["code"] for name, entry in resolved["dtypes"].items()}
        dtype2 = Field("dtype2", *raw["dtype2_bits"]) if raw["dtype2_bits"] else None
        reserved = [WORD] * (raw["words"] + 1)
        head = [field for name, field in self.head.items() if name != "dtype" or raw["dtyped"]]
        for field in (*head, *operands, *((dtype2,) if dtype2 else ())):
            reserved[field.word] &= ~field.put(WORD)
        first, last = resolved["custom_opcodes"]
        return Entry(
            name=raw["name"],
            opcode=raw["opcode"],
            format=raw["format"],
            custom=first <= raw["opcode"] <= last,
            words=raw["words"],
            unit=raw["unit"],
            on=resolved["features"][raw["feature"]]["default"],
            operands=operands,
            pairs={(codes[a], codes[b] if b else 0): (a, b) for a, b in raw["dtypes"]},
            dtype2=dtype2,
            reserved=tuple(reserved),
        )


def _operand(spec: Mapping[str, Any], resolved: Mapping[str, Any]) -> Field:
    word, at, width = spec["bits"]
    return Field(
        name=spec["name"],
        word=word,
        at=at,
        width=width,
        signed=resolved["operand_kinds"][spec["kind"]]["repr"] == "sint",
        low=spec["min"],
        high=spec["max"],
        values=tuple(sorted(spec["values"].items(), key=lambda item: item[1])),
        default=spec["default"],
    )
