"""How the decoder groups instructions: those with equal fields share their wires from the hit on."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass

from npuvm.isa.generate.ports import enabled
from npuvm.isa.model import BitField, Instruction, Isa, OperandSpec

__all__ = ["Group", "ReservedRun", "format_groups", "reserved_runs", "type_groups"]

_WORD_BITS = 64


@dataclass(frozen=True, slots=True)
class Group:
    """Instructions that a wire `name` stands for."""

    name: str
    members: tuple[Instruction, ...]

    @property
    def first(self) -> Instruction:
        """Any one of them, for what they have in common."""
        return self.members[0]


@dataclass(frozen=True, slots=True)
class ReservedRun:
    """Neighbouring bits that the same groups reserve."""

    bits: BitField
    groups: tuple[Group, ...]


def format_groups(isa: Isa) -> tuple[Group, ...]:
    """Instructions that are on, grouped by format, unit and all that their fields are and may hold."""
    return _grouped(enabled(isa), _fields, lambda first: f"fmt_{first.format}")


def type_groups(isa: Isa) -> tuple[Group, ...]:
    """Typed instructions that are on, grouped by where their types stand and which they allow."""
    typed = [i for i in enabled(isa) if i.dtypes]
    return _grouped(typed, lambda i: (frozenset(i.dtypes), i.dtype2_bits), lambda first: f"types_of_{first.name}")


def reserved_runs(groups: Sequence[Group]) -> list[ReservedRun]:
    """The bits that some group reserves, in order, cut where the set of groups changes."""
    runs: list[ReservedRun] = []
    for word in range(max((len(group.first.reserved) for group in groups), default=0)):
        for bit in range(_WORD_BITS):
            owners = tuple(g for g in groups if word < len(g.first.reserved) and g.first.reserved[word] >> bit & 1)
            if not owners:
                continue
            last = runs[-1] if runs else None
            if last and last.groups == owners and (last.bits.word, last.bits.low + last.bits.width) == (word, bit):
                runs[-1] = ReservedRun(BitField(word, last.bits.low, last.bits.width + 1), owners)
            else:
                runs.append(ReservedRun(BitField(word, bit, 1), owners))
    return runs


def _fields(instruction: Instruction) -> Hashable:
    return (
        instruction.format,
        instruction.unit,
        instruction.words,
        instruction.reserved,
        bool(instruction.dtypes),
        instruction.dtype2_bits,
        tuple(_field(operand) for operand in instruction.operands),
    )


def _field(operand: OperandSpec) -> Hashable:
    kind = (operand.kind.name, operand.is_region)
    return (operand.name, operand.bits, kind, operand.low, operand.high, tuple(operand.values.items()))


def _grouped(
    instructions: Iterable[Instruction],
    key: Callable[[Instruction], Hashable],
    name: Callable[[Instruction], str],
) -> tuple[Group, ...]:
    """Groups in the order of their first members; a name that is taken gets the first member's as well."""
    found: dict[Hashable, list[Instruction]] = {}
    for instruction in instructions:
        found.setdefault(key(instruction), []).append(instruction)
    groups: list[Group] = []
    for members in found.values():
        text = name(members[0])
        if any(group.name == text for group in groups):
            text = f"{text}_of_{members[0].name}"
        groups.append(Group(text, tuple(members)))
    return tuple(groups)
