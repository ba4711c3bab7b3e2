"""The linker: program images become one image, in which they run side by side, one after the other, or both.

A stack is a list of levels with a barrier of the launch between them. The parts of a level are images that do not depend on
each other. A core runs, level by level, the parts that were placed on it; parts that share a core within a level stand one
behind the other with a barrier of the core between. Cores that run the same parts share one program, a copy of the parts'
words: nothing is decoded, only the numbers of the grids' phases, the places of the relocations and the arguments change.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from npuvm.compiler.errors import CompileError
from npuvm.compiler.stack_entries import Run, StackedEntries, busy
from npuvm.isa import Entry, Image, Insn, Isa, RelocTable, encode

__all__ = ["Part", "grid_words", "link", "most_phases"]

_Words = npt.NDArray[np.uint64]
_Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Part:
    """An image in a stack. `first` is, by core type, the number of its first core among those of the type; `args` gives the
    stack's argument for each argument of the image."""

    image: Image
    first: Mapping[str, int]
    args: Sequence[int]


@dataclass(frozen=True, slots=True)
class _Code:
    """What the cores of one type run of a part: its words without the halt, and from their begin its grids and relocations."""

    words: _Words
    grids: _Places
    relocs: tuple[_Places, _Places, _Places]
    low: int
    high: int
    entries: Sequence[Entry]
    phases: int


@dataclass(frozen=True, slots=True)
class _Fixed:
    """Words and fields that the linker needs of an instruction set."""

    core_barrier: _Words
    launch_barrier: _Words
    halt: _Words
    phase_low: int
    phases: int


_FIXED: dict[str, _Fixed] = {}


def _fixed(isa: Isa) -> _Fixed:
    found = _FIXED.get(isa.hash)
    if found is None:
        scopes = isa.instruction("barrier").operand("scope").values
        phase = isa.instruction("grid").operand("phase").bits

        def words(op: str, **args: int) -> _Words:
            return np.array(encode(isa, Insn(op, args=args)), dtype=np.uint64)

        barriers = words("barrier", scope=scopes["core"]), words("barrier", scope=scopes["launch"])
        found = _FIXED[isa.hash] = _Fixed(*barriers, words("halt"), phase.low, 1 << phase.width)
    return found


def most_phases(isa: Isa) -> int:
    """Most grids that one program can number."""
    return _fixed(isa).phases


def grid_words(isa: Isa, image: Image) -> Sequence[int]:
    """The words at which an image's grids begin: as noted in it, else found by going from head to head."""
    if image.grids is not None:
        return image.grids
    opcode, length = isa.head["opcode"], isa.head["length"]
    low, mask = opcode.low, (1 << opcode.width) - 1
    size_low, size_mask = length.low, (1 << length.width) - 1
    grid = isa.instruction("grid").opcode
    words, found, at = image.words.tolist(), [], 0
    while at < len(words):
        head = words[at]
        if head >> low & mask == grid:
            found.append(at)
        at += 1 + (head >> size_low & size_mask)
    return found


def link(name: str, isa: Isa, group: Sequence[str], levels: Sequence[Sequence[Part]], n_args: int) -> Image:
    """One image of all parts; `group` names the core types of a core group in launch order.

    CompileError when a core would have more grids than phases can be numbered, or when cores of one type run different programs
    of one image.
    """
    fixed = _fixed(isa)
    levels_of: dict[str, list[list[_Code]]] = {}
    for number, parts in enumerate(levels):
        for part in parts:
            for core_type, code in _codes(isa, fixed, part):
                if core_type not in levels_of:
                    levels_of[core_type] = [[] for _ in levels]
                levels_of[core_type][number].append(code)
    order = tuple(each for each in group if each in levels_of)
    # Whole core groups, as many as the parts reach.
    groups = max(
        -(-code.high // order.count(core_type))
        for core_type, each in levels_of.items()
        for here in each
        for code in here
    )
    text = _Text(name, fixed)
    runs = {
        core_type: tuple(_program(text, each, groups * order.count(core_type))) for core_type, each in levels_of.items()
    }
    return text.image(isa, StackedEntries(order, groups, runs), n_args)


def _codes(isa: Isa, fixed: _Fixed, part: Part) -> Iterator[tuple[str, _Code]]:
    """What a part's cores of each type run."""
    image = part.image
    grids = grid_words(isa, image)
    relocs = RelocTable.of(image.relocs)
    args = np.array(part.args, dtype=np.int64)[relocs.args] if len(relocs) else relocs.args
    programs = busy(image)
    for core_type, (start, entries, phases) in programs.items():
        words, places = image.words, np.array(grids, dtype=np.int64)
        table = relocs.words, args, relocs.addends
        if len(programs) > 1:
            stop = min((other for other, _, _ in programs.values() if other > start), default=len(words))
            words = words[start:stop]
            places = places[(start <= places) & (places < stop)] - start
            own = (start <= relocs.words) & (relocs.words < stop)
            table = relocs.words[own] - start, args[own], relocs.addends[own]
        if words[-1] != fixed.halt[0]:
            raise CompileError(f"the program at word {start} does not end in halt", image.name)
        low = part.first.get(core_type, 0)
        yield core_type, _Code(words[:-1], places, table, low, low + len(entries), entries, phases)


class _Text:
    """The words of the stack under construction."""

    def __init__(self, name: str, fixed: _Fixed) -> None:
        self.name = name
        self.fixed = fixed
        self.at = 0
        self._pieces: list[_Words] = []
        self._grids: list[_Places] = []
        self._added: list[int] = []
        self._relocs: list[tuple[_Places, _Places, _Places]] = []

    def append(self, words: _Words) -> None:
        self._pieces.append(words)
        self.at += len(words)

    def part(self, code: _Code, phase: int) -> None:
        """Copy a part; its phases are numbered from `phase`."""
        self._grids.append(code.grids + self.at)
        self._added += [phase] * len(code.grids)
        words, args, addends = code.relocs
        self._relocs.append((words + self.at, args, addends))
        self.append(code.words)

    def image(self, isa: Isa, entries: Sequence[Entry], n_args: int) -> Image:
        words = np.concatenate(self._pieces)
        grids = np.concatenate(self._grids)
        words[grids] += np.array(self._added, dtype=np.uint64) << np.uint64(self.fixed.phase_low)
        columns = [np.concatenate(column) for column in zip(*self._relocs, strict=True)]
        return Image(self.name, isa.hash, words, entries, RelocTable.joined(*columns), n_args, tuple(grids.tolist()))


def _program(text: _Text, levels: Sequence[Sequence[_Code]], cores: int) -> Iterator[Run]:
    """Write the programs of all cores of a type. Between two bounds all cores run the same parts."""
    bounds = {0, cores}
    for parts in levels:
        for code in parts:
            bounds.add(code.low)
            bounds.add(code.high)
    for low, high in pairwise(sorted(bounds)):
        start, phase = text.at, 0
        run: list[tuple[Sequence[Entry], int]] = []
        for number, parts in enumerate(levels):
            if number:
                text.append(text.fixed.launch_barrier)
            shared = False
            for code in parts:
                if code.low <= low < code.high:
                    if shared:
                        text.append(text.fixed.core_barrier)
                    text.part(code, phase)
                    phase += code.phases
                    run.append((code.entries, code.low))
                    shared = True
        text.append(text.fixed.halt)
        if phase > text.fixed.phases:
            message = f"{phase} grids on one core; allowed: {text.fixed.phases}, so cut the stack into several launches"
            raise CompileError(message, text.name)
        yield Run(low, high, start, tuple(run))
