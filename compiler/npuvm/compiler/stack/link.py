"""The linker: program images become one image, in which they run side by side, one after the other, or both.

A stack is a list of levels with a barrier of the launch between them. The parts of a level are images that do not depend on
each other. A core runs, level by level, the parts that were placed on it; parts that share a core within a level stand one
behind the other with a barrier of the core between. Cores that run the same parts share one program, a copy of the parts'
words: nothing is decoded, only the numbers of the grids' phases, the places of the relocations and the arguments change.
Where all that lies depends on the form of the images and the order of their cores alone, so a linkage serves all alike in both.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from npuvm.compiler.errors import CompileError
from npuvm.compiler.stack.entries import Programs, Run, StackedEntries, busy
from npuvm.isa import Image, Insn, Isa, RelocTable, encode

__all__ = ["Bounds", "Linkage", "Part", "grid_words", "link", "most_phases", "order_of_cores"]

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
    parts = [part for each in levels for part in each]
    linkage = Linkage(name, isa, group, levels, n_args)
    return linkage.image([each.image for each in parts], [busy(each.image) for each in parts], [p.first for p in parts])


Bounds = tuple[int, Mapping[str, Sequence[int]]]
"""Whole core groups, and by core type the cores at which parts begin or end."""


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
        codes = {core_type: [code for here in each for code in here] for core_type, each in levels_of.items()}
        self._parts = {core_type: [code.part for code in each] for core_type, each in codes.items()}
        _, bounds = _bounds({core: [(c.low, c.high) for c in each] for core, each in codes.items()}, self._order)
        text = _Text(name, fixed)
        self._runs = {core_type: _programs(text, each, bounds[core_type]) for core_type, each in levels_of.items()}
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

    def places(self) -> Iterator[tuple[int, int, int]]:
        """By number of the part, the words of the image that are copies of its own: the first, and the one after the last."""
        for part, start, stop, at in self._copies:
            yield part, at, at + stop - start

    def bounds(self, programs: Sequence[Programs], firsts: Sequence[Mapping[str, int]]) -> Bounds:
        """Whole core groups, and by core type the cores at which parts begin or end; see `image`."""
        spans = {
            core_type: [_span(programs[part], firsts[part], core_type) for part in each]
            for core_type, each in self._parts.items()
        }
        return _bounds(spans, self._order)

    def image(
        self,
        images: Sequence[Image],
        programs: Sequence[Programs],
        firsts: Sequence[Mapping[str, int]],
        bounds: Bounds | None = None,
    ) -> Image:
        """The images, in the order of the parts, as one; `programs` are what `busy` says of them, `firsts` as in the parts.

        They may have other numbers of cores than the parts, but their `order_of_cores` must be the same. `bounds` are those
        of programs with as many entries, where they are known.
        """
        words = self._words.copy()
        for part, start, stop, at in self._copies:
            words[at : at + stop - start] = images[part].words[start:stop]
        words[self._grids] += self._phases
        tables = [RelocTable.of(image.relocs).addends for image in images]
        addends = [tables[part] if own is None else tables[part][own] for part, own in self._addends]
        relocs = RelocTable.joined(self._reloc_words, self._reloc_args, np.concatenate(addends))
        groups, cores = bounds or self.bounds(programs, firsts)
        runs = {
            core_type: tuple(
                [
                    Run(low, high, pc, tuple([(programs[n][core_type][1], firsts[n].get(core_type, 0)) for n in parts]))
                    for (low, high), (pc, parts) in zip(pairwise(cores[core_type]), each, strict=True)
                ]
            )
            for core_type, each in self._runs.items()
        }
        stacked = StackedEntries(self._order, groups, runs)
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


def _bounds(spans: Mapping[str, Sequence[tuple[int, int]]], order: Sequence[str]) -> tuple[int, dict[str, list[int]]]:
    """Whole core groups, as many as parts on these cores reach, and by type the cores at which parts begin or end."""
    groups = max(-(-high // order.count(core_type)) for core_type, each in spans.items() for _, high in each)
    bounds = {
        core_type: sorted({0, groups * order.count(core_type), *(core for span in each for core in span)})
        for core_type, each in spans.items()
    }
    return groups, bounds


def _span(programs: Programs, first: Mapping[str, int], core_type: str) -> tuple[int, int]:
    """The first core of a type that runs an image, and the one after the last."""
    low = first.get(core_type, 0)
    return low, low + len(programs[core_type][1])


def order_of_cores(programs: Sequence[Programs], firsts: Sequence[Mapping[str, int]], group: Sequence[str]) -> Hashable:
    """What of the cores of images, which begin at these, decides about programs: which begin and end with each other."""
    types = dict.fromkeys(core_type for each in programs for core_type in each)
    spans = {
        core_type: [
            _span(each, first, core_type) for each, first in zip(programs, firsts, strict=True) if core_type in each
        ]
        for core_type in types
    }
    _, bounds = _bounds(spans, [each for each in group if each in spans])
    return tuple(
        (core_type, len(bounds[core_type]), *(bounds[core_type].index(core) for span in each for core in span))
        for core_type, each in spans.items()
    )


def _programs(text: _Text, levels: Sequence[Sequence[_Code]], bounds: Sequence[int]) -> list[tuple[int, list[int]]]:
    """Write the programs of all cores of a type. Between two bounds all cores run the same parts.

    Gives for each pair of bounds the first word, and the parts.
    """
    runs = []
    for low, _ in pairwise(bounds):
        start, phase = text.at, 0
        run: list[int] = []
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
                    run.append(code.part)
                    shared = True
        text.append(text.fixed.halt)
        if phase > text.fixed.phases:
            message = f"{phase} grids on one core; allowed: {text.fixed.phases}, so cut the stack into several launches"
            raise CompileError(message, text.name)
        runs.append((start, run))
    return runs
