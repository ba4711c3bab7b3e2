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
from npuvm.isa import Entry, Image, Insn, Isa, Reloc, encode

__all__ = ["Part", "grid_words", "link", "most_phases", "phases_of"]

_Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Part:
    """An image in a stack. `first` is, by core type, the number of its first core among those of the type; `args` gives the
    stack's argument for each argument of the image."""

    image: Image
    first: Mapping[str, int]
    args: Sequence[int]


@dataclass(frozen=True, slots=True)
class _Code:
    """What the cores of one type run of a part: its words without the halt, its grids and relocations from their begin."""

    words: _Words
    grids: npt.NDArray[np.int64]
    relocs: Sequence[tuple[int, int, int]]
    low: int
    entries: Sequence[Entry]
    phases: int

    @property
    def high(self) -> int:
        return self.low + len(self.entries)


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


def phases_of(image: Image) -> dict[str, int]:
    """Numbers of grid phases that a part takes on cores of each type."""
    return {entry.core_type: len(entry.ranges) for entry in image.entries}


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
    levels_of: dict[str, list[list[_Code]]] = {core_type: [[] for _ in levels] for core_type in group}
    for number, parts in enumerate(levels):
        for part in parts:
            for core_type, code in _codes(isa, fixed, part):
                levels_of[core_type][number].append(code)
    codes = {core_type: each for core_type, each in levels_of.items() if any(each)}
    order = tuple(each for each in group if each in codes)
    # Whole core groups, as many as the parts reach.
    groups = max(
        -(-code.high // order.count(core_type)) for core_type, each in codes.items() for here in each for code in here
    )
    text = _Text(name, fixed)
    walks = {
        core_type: iter(_program(text, core_type, each, groups * order.count(core_type)))
        for core_type, each in codes.items()
    }
    return text.image(isa, [next(walks[core_type]) for _ in range(groups) for core_type in order], n_args)


def _codes(isa: Isa, fixed: _Fixed, part: Part) -> Iterator[tuple[str, _Code]]:
    """What a part's cores of each type run."""
    image = part.image
    grids, relocs = grid_words(isa, image), image.relocs
    starts = {(entry.core_type, entry.pc) for entry in image.entries}
    if len(starts) == 1:
        ((core_type, _),) = starts
        moved = [(each.word, part.args[each.arg], each.addend) for each in relocs]
        entries = _busy(image.entries)
        yield core_type, _code(fixed, part, core_type, entries, (0, len(image.words)), grids, moved)
        return
    if len({core_type for core_type, _ in starts}) < len(starts):
        raise CompileError(
            "cores of one type run different programs of the image; a part of a stack has one", image.name
        )
    for core_type, start in starts:
        entries = [entry for entry in image.entries if entry.core_type == core_type]
        stop = min((pc for _, pc in starts if pc > start), default=len(image.words))
        own = [at - start for at in grids if start <= at < stop]
        moved = [(r.word - start, part.args[r.arg], r.addend) for r in relocs if start <= r.word < stop]
        yield core_type, _code(fixed, part, core_type, entries, (start, stop), own, moved)


def _busy(entries: Sequence[Entry]) -> Sequence[Entry]:
    """The entries without those at the end that have nothing to do."""
    count = len(entries)
    while count > 1 and entries[0].ranges and all(low == high for low, high in entries[count - 1].ranges):
        count -= 1
    return entries[:count]


def _code(
    fixed: _Fixed,
    part: Part,
    core_type: str,
    entries: Sequence[Entry],
    span: tuple[int, int],
    grids: Sequence[int],
    relocs: Sequence[tuple[int, int, int]],
) -> _Code:
    words = part.image.words[span[0] : span[1]]
    if words[-1] != fixed.halt[0]:
        raise CompileError(f"the program at word {span[0]} does not end in halt", part.image.name)
    places = np.array(grids, dtype=np.int64)
    return _Code(words[:-1], places, relocs, part.first.get(core_type, 0), entries, len(entries[0].ranges))


class _Text:
    """The words of the stack under construction."""

    def __init__(self, name: str, fixed: _Fixed) -> None:
        self.name = name
        self.fixed = fixed
        self.at = 0
        self._pieces: list[_Words] = []
        self._grids: list[npt.NDArray[np.int64]] = []
        self._added: list[int] = []
        self._relocs: list[Reloc] = []

    def append(self, words: _Words) -> None:
        self._pieces.append(words)
        self.at += len(words)

    def part(self, code: _Code, phase: int) -> None:
        """Copy a part; its phases are numbered from `phase`."""
        at = self.at
        self._grids.append(code.grids + at)
        self._added += [phase] * len(code.grids)
        self._relocs += [Reloc(word + at, arg, addend) for word, arg, addend in code.relocs]
        self.append(code.words)

    def image(self, isa: Isa, entries: Sequence[Entry], n_args: int) -> Image:
        words = np.concatenate(self._pieces)
        grids = np.concatenate(self._grids)
        words[grids] += np.array(self._added, dtype=np.uint64) << np.uint64(self.fixed.phase_low)
        relocs = tuple(self._relocs)
        return Image(self.name, isa.hash, words, tuple(entries), relocs, n_args, tuple(grids.tolist()))


def _program(text: _Text, core_type: str, levels: Sequence[Sequence[_Code]], cores: int) -> list[Entry]:
    """Write the programs of all cores of a type; their entries in order. Between two bounds all cores run the same parts."""
    entries: list[Entry] = []
    bounds = {0, cores}
    for parts in levels:
        for code in parts:
            bounds |= {code.low, code.high}
    for low, high in pairwise(sorted(bounds)):
        start, phase = text.at, 0
        ranges: list[tuple[tuple[int, int], ...]] = [()] * (high - low)
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
                    own = code.entries[low - code.low : high - code.low]
                    ranges = [before + entry.ranges for before, entry in zip(ranges, own, strict=True)]
                    shared = True
        text.append(text.fixed.halt)
        if phase > text.fixed.phases:
            message = f"{phase} grids on one core; allowed: {text.fixed.phases}, so cut the stack into several launches"
            raise CompileError(message, text.name)
        entries += [Entry(core_type, start, each) for each in ranges]
    return entries
