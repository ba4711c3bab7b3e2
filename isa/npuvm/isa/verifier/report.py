"""What the verifier is told about a chip, the rules it checks, and what it reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import NoReturn

from npuvm.isa.disasm import format_insn
from npuvm.isa.errors import VerifyError
from npuvm.isa.model import Insn, Isa

__all__ = ["RULES", "Abandon", "CapacityLimits", "Finding", "Findings", "VerifyReport"]

RULES: Mapping[str, str] = MappingProxyType(
    {
        "decode": "every word belongs to a legal instruction",
        "hash": "the image was made for this instruction set",
        "entry": "every core starts at an instruction, on a core type that the chip has, and there are enough cores",
        "structure": "loops and grids are balanced and nested, loop ids distinct, set-up and barriers outside, halt reached",
        "sequencer": "sequencer instructions carry no waits, no sets, no order bit; set-up and control no predicate",
        "predicate": "first and last name open loops, changed and changes loops of the open grid",
        "undefined": "every size, descriptor, ring, register and semaphore is defined before its use, its loops are open",
        "unit": "the core has the unit and the buffers that an instruction uses",
        "space": "a descriptor points into a space that the operand allows",
        "alignment": "bases, pitches, strides and slots keep the alignment of their space",
        "pitch": "rows of what is written do not overlap; pitch 0 is for reads",
        "bounds": "what an instruction can reach, over all iterations and slots, lies in its buffer or argument",
        "slot": "what is reached through a ring stays in its own slot",
        "relocation": "relocations patch the bases of global-memory descriptors, and each of those has one",
        "range": "the tiles of a core lie within its grid",
        "barrier": "all cores of a scope meet at the same barriers",
        "owner": "a semaphore has one unit that sets it and one that waits for it",
        "ring": "a slot is used by its producer between waiting for free and setting ready, by its consumer the other way",
        "redefinition": "a semaphore that was used is set up again only after a barrier",
        "balance": "middle iterations and whole grids leave every semaphore of the core as they found it",
        "deadlock": "all cores, each in program order, run to their halt",
        "hazard": "conflicting accesses of a buffer are ordered by semaphores, barriers or the order bit",
        "effort": "the proof takes no more steps than it may",
    }
)
"""Every rule with its statement."""


@dataclass(frozen=True)
class CapacityLimits:
    """What a program may use of a chip.

    Per core type (unified, cube, vector): bytes of each on-chip space, names of the units, number of cores. `group` lists
    the core types of one core group in the order of entries: ("unified",) or ("cube", "vector", "vector").
    """

    space_bytes: Mapping[str, Mapping[str, int]]
    units: Mapping[str, frozenset[str]]
    cores: Mapping[str, int]
    group: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Finding:
    """One broken rule: where (word index and instruction, when there is one), what is wrong, what is allowed."""

    rule: str
    message: str
    pc: int | None = None
    instruction: str | None = None

    @property
    def where(self) -> str | None:
        """The place as text, None for a finding about the whole image."""
        if self.pc is None:
            return None
        return f"word {self.pc}" + (f" ({self.instruction})" if self.instruction else "")

    def __str__(self) -> str:
        return f"{self.where}: {self.message} [{self.rule}]" if self.pc is not None else f"{self.message} [{self.rule}]"


@dataclass(frozen=True, slots=True)
class VerifyReport:
    """The outcome: `findings` is empty for a legal image. `instructions` in the text, `steps` walked to prove it."""

    name: str
    instructions: int
    steps: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.findings


class Abandon(Exception):
    """The rest of an image cannot be checked after what was found."""


@dataclass
class Findings:
    """Takes findings: raises VerifyError at the first, or with `collect` keeps them all, each text once."""

    isa: Isa
    name: str
    collect: bool
    found: dict[str, Finding] = field(default_factory=dict)

    def add(self, rule: str, message: str, pc: int | None = None, insn: Insn | None = None) -> None:
        """Report a broken rule."""
        assert rule in RULES, rule
        finding = Finding(rule, message, pc, format_insn(self.isa, insn) if insn else None)
        if not self.collect:
            where = f"{self.name}: {finding.where}" if finding.where else self.name
            raise VerifyError(f"{message} [{rule}]", where)
        self.found.setdefault(str(finding), finding)

    def fatal(self, rule: str, message: str, pc: int | None = None, insn: Insn | None = None) -> NoReturn:
        """Report a broken rule after which nothing else can be checked."""
        self.add(rule, message, pc, insn)
        raise Abandon
