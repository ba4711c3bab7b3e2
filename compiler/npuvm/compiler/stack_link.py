"""The linker: program images become one image, in which they run side by side, one after the other, or both.

A stack is a list of levels with a barrier of the launch between them. The parts of a level are images that do not depend on
each other. A core runs, level by level, the parts that were placed on it; parts that share a core within a level stand one
behind the other with a barrier of the core between. Cores that run the same parts share one program, a copy of the parts'
words: nothing is decoded, only the numbers of the grids' phases, the places of the relocations and the arguments change.
Where all that lies depends on the form of the images alone, so a linkage serves all images of one form.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from npuvm.compiler.errors import CompileError
from npuvm.compiler.stack_entries import Run, StackedEntries, busy
from npuvm.isa import Image, Insn, Isa, RelocTable, encode

__all__ = ["Linkage", "Part", "grid_words", "link", "most_phases"]

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
    """What the cores of one type run of part `part`: its words `start` to `stop`, without the halt, and its entries.

    `grids` and `reloc_words` count from `start`. `own` picks the relocations of these words, None when it is all of them.
    """

    part: int
    start: int
    stop: int
    grids: _Places
    reloc_words: _Places
    reloc_args: _Places
    own: npt.NDArray[np.bool_] | None
    low: int
    high: int
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
    """One image of all parts; see `Linkage`."""
    return Linkage(name, isa, group, levels, n_args).image([part.image for parts in levels for part in parts])


class Linkage:
    """How images of one form become one image; `group` names the core types of a core group in launch order.

    CompileError when a core would have more grids than phases can be numbered, or when cores of one type run different programs
    of one image.
    """

    def __init__(
        self, name: str, isa: Isa, group: Sequence[str], levels: Sequence[Sequence[Part]], n_args: int
    ) -> None:
        fixed = _fixed(isa)
        self._name, self._isa_hash, self._n_args = name, isa.hash, n_args
        levels_of: dict[str, list[list[_Code]]] = {}
        number = 0
        for level, parts in enumerate(levels):
            for part in parts:
                for core_type, code in _codes(isa, fixed, part, number):
                    if core_type not in levels_of:
                        levels_of[core_type] = [[] for _ in levels]
                    levels_of[core_type][level].append(code)
                number += 1
        self._order = tuple(each for each in group if each in levels_of)
        # Whole core groups, as many as the parts reach.
        self._groups = max(
            -(-code.high // self._order.count(core_type))
            for core_type, each in levels_of.items()
            for here in each
            for code in here
        )
        text = _Text(name, fixed)
        self._runs = {
            core_type: _programs(text, each, self._groups * self._order.count(core_type))
            for core_type, each in levels_of.items()
        }
        self._words = np.zeros(text.at, dtype=np.uint64)
        for at, word in text.words.items():
            self._words[at] = word
        self._copies = [(code.part, code.start, code.stop, at) for code, at in text.codes]
        self._grids = np.concatenate([code.grids + at for code, at in text.codes])
        self._noted = tuple(self._grids.tolist())
        self._phases = np.array(text.phases, dtype=np.uint64) << np.uint64(fixed.phase_low)
        self._reloc_words = np.concatenate([code.reloc_words + at for code, at in text.codes])
        self._reloc_args = np.concatenate([code.reloc_args for code, _ in text.codes])
        self._addends = [(code.part, code.own) for code, _ in text.codes]

    def image(self, images: Sequence[Image]) -> Image:
        """The images, in the order of the parts, as one."""
        words = self._words.copy()
        for part, start, stop, at in self._copies:
            words[at : at + stop - start] = images[part].words[start:stop]
        words[self._grids] += self._phases
        tables = [RelocTable.of(image.relocs).addends for image in images]
        addends = [tables[part] if own is None else tables[part][own] for part, own in self._addends]
        relocs = RelocTable.joined(self._reloc_words, self._reloc_args, np.concatenate(addends))
        entries = [busy(image) for image in images]
        runs = {
            core_type: tuple(
                [
                    Run(low, high, pc, tuple([(entries[part][core_type][1], first) for part, first in parts]))
                    for low, high, pc, parts in each
                ]
            )
            for core_type, each in self._runs.items()
        }
        stacked = StackedEntries(self._order, self._groups, runs)
        return Image(self._name, self._isa_hash, words, stacked, relocs, self._n_args, self._noted)


def _codes(isa: Isa, fixed: _Fixed, part: Part, number: int) -> Iterator[tuple[str, _Code]]:
    """What a part's cores of each type run."""
    image = part.image
    grids = np.array(grid_words(isa, image), dtype=np.int64)
    relocs = RelocTable.of(image.relocs)
    args = np.array(part.args, dtype=np.int64)[relocs.args] if len(relocs) else relocs.args
    programs = busy(image)
    for core_type, (start, entries, phases) in programs.items():
        stop = min((other for other, _, _ in programs.values() if other > start), default=len(image.words))
        if image.words[stop - 1] != fixed.halt[0]:
            raise CompileError(f"the program at word {start} does not end in halt", image.name)
        places = grids[(start <= grids) & (grids < stop)] - start
        own = None if len(programs) == 1 else (start <= relocs.words) & (relocs.words < stop)
        words, taken = (relocs.words, args) if own is None else (relocs.words[own], args[own])
        low = part.first.get(core_type, 0)
        yield (
            core_type,
            _Code(number, start, stop - 1, places, words - start, taken, own, low, low + len(entries), phases),
        )


class _Text:
    """The words of the stack under construction: `words` that the linker adds by place, and the parts with theirs."""

    def __init__(self, name: str, fixed: _Fixed) -> None:
        self.name = name
        self.fixed = fixed
        self.at = 0
        self.words: dict[int, np.uint64] = {}
        self.codes: list[tuple[_Code, int]] = []
        self.phases: list[int] = []

    def append(self, words: _Words) -> None:
        """Add words of the linker's own."""
        for word in words:
            self.words[self.at] = word
            self.at += 1

    def part(self, code: _Code, phase: int) -> None:
        """Add a part; its phases are numbered from `phase`."""
        self.codes.append((code, self.at))
        self.phases += [phase] * len(code.grids)
        self.at += code.stop - code.start


def _programs(
    text: _Text, levels: Sequence[Sequence[_Code]], cores: int
) -> list[tuple[int, int, int, list[tuple[int, int]]]]:
    """Write the programs of all cores of a type. Between two bounds all cores run the same parts.

    Gives first core, the one after the last, first word, and the parts with the core of their first entry.
    """
    bounds = {0, cores}
    for parts in levels:
        for code in parts:
            bounds.add(code.low)
            bounds.add(code.high)
    runs = []
    for low, high in pairwise(sorted(bounds)):
        start, phase = text.at, 0
        run: list[tuple[int, int]] = []
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
                    run.append((code.part, code.low))
                    shared = True
        text.append(text.fixed.halt)
        if phase > text.fixed.phases:
            message = f"{phase} grids on one core; allowed: {text.fixed.phases}, so cut the stack into several launches"
            raise CompileError(message, text.name)
        runs.append((low, high, start, run))
    return runs
