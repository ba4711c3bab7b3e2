"""What the conformance suite asks of an implementation of the instruction set, and what it gets back.

A target is anything that executes npuvm bytecode, or a part of it: an interpreter, a timed model, a hardware decoder. It says
which levels of the suite it can run; the suite hands it cases of those levels and compares. Targets are found by the entry
point group `npuvm.conformance_targets`: name -> a function that takes nothing and returns a `Target`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from npuvm.isa.model import Insn, Isa, WordClass

__all__ = ["ENTRY_POINTS", "Decoded", "Level", "Outcome", "ProgramCase", "Target"]

ENTRY_POINTS = "npuvm.conformance_targets"


class Level(Enum):
    """The levels of the suite, from the description to whole programs on several chips."""

    LINT = "lint"
    """The resolved instruction set itself: cover, overlaps, free space, invariants. Needs no target."""
    GOLDEN = "golden"
    """Words assembled by hand decode to what was meant."""
    ENCODING = "encoding"
    """Every instruction with every field at its bounds, at random, and one beyond."""
    CLASSES = "classes"
    """Bit flips, every opcode, random words: which of the five classes, and what is decoded."""
    SEMANTICS = "semantics"
    """One instruction on data, over dtypes, edge values and shapes."""
    SEQUENCES = "sequences"
    """Several instructions with events, rings, loops and predicates; programs that must be refused."""
    TRAPS = "traps"
    """Every trap, and which one when several apply."""
    CHIPS = "chips"
    """The same programs on several chips."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """What a target makes of the words from one position of a program on.

    `words` is the length in words, head included, and `insn` all that was decoded; both only for `WordClass.LEGAL`, else
    0 and None. `unit` is the unit that executes it (for `usync` the one it names).
    """

    word_class: WordClass
    words: int = 0
    insn: Insn | None = None
    unit: str | None = None


@dataclass(frozen=True)
class ProgramCase:
    """A program to run on one chip.

    `chip` names a shipped chip, `text` is assembly for that chip. `arguments` are the tensors of global memory behind the
    image's arguments, in order; `expected` maps an argument's index to its contents afterwards, compared bit by bit, with
    `tolerance` in units of the last place where given (NaNs are equal to NaNs). `trap` is the trap it must end in instead,
    `refused` the verifier rule it must break. `bins` are the coverage bins that it covers.
    """

    id: str
    level: Level
    chip: str
    text: str
    arguments: tuple[npt.NDArray[Any], ...] = ()
    expected: Mapping[int, npt.NDArray[Any]] = field(default_factory=dict)
    tolerance: int = 0
    trap: str | None = None
    refused: str | None = None
    cycle_limit: int | None = None
    bins: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What running a `ProgramCase` gave: the arguments afterwards, or the trap, or the error that is none."""

    arguments: tuple[npt.NDArray[np.uint8], ...] = ()
    trap: str | None = None
    error: str | None = None


class Target(Protocol):
    """An implementation under test."""

    name: str
    """As given on the command line."""

    def levels(self) -> frozenset[Level]:
        """The levels it can run."""

    def unavailable(self) -> str | None:
        """Why it cannot run on this machine (a missing tool, by name, and how to get it); None when it can."""

    def decode(self, isa: Isa, programs: Sequence[Sequence[int]]) -> list[Decoded]:
        """Decode what stands at word 0 of each program; the words behind the first instruction are there or not.

        A target without the levels that decode (golden, encoding, classes) need not implement it.
        """

    def run(self, isa: Isa, case: ProgramCase) -> Outcome:
        """Run a program; `Outcome.arguments` are the raw bytes of each argument, as many as it had."""
