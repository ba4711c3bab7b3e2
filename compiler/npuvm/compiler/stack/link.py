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
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npuvm.compiler.errors import CompileError
from npuvm.compiler.stack.entries import Programs, Run, StackedEntries, busy
from npuvm.isa import Image, Insn, Isa, RelocTable, encode

__all__ = ["Code", "Cores", "Linkage", "Part", "codes_of", "cores_of", "grid_words", "link", "most_phases"]

_Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Part:
    """An image in a stack. `first` is, by core type, the number of its first core among those of the type; `args` gives the
    stack's argument for each argument of the image."""

    image: Image
    first: Mapping[str, int]
    args: Sequence[int]


class Code(NamedTuple):
    """What the cores of one type run of part `part`: its words `start` to `stop`, without the halt.

    `grids`, as many phases as its entries have, and `reloc_words` count from `start`. `own` picks the relocations of these
    words, None when it is all of them.
    """

    part: int
    start: int
    stop: int
    grids: Sequence[int]
    reloc_words: _Places
    reloc_args: _Places
    own: slice | npt.NDArray[np.int64] | None
    phases: int


class _Fixed(NamedTuple):
    """Words and fields that the linker needs of an instruction set."""

    core_barrier: int
    launch_barrier: int
    halt: int
    phase_low: int
    phases: int


_FIXED: dict[str, _Fixed] = {}


def _fixed(isa: Isa) -> _Fixed:
    found = _FIXED.get(isa.hash)
    if found is None:
        scopes = isa.instruction("barrier").operand("scope").values
        phase = isa.instruction("grid").operand("phase").bits

        def word(op: str, **args: int) -> int:
            (only,) = encode(isa, Insn(op, args=args))
            return only

        barriers = word("barrier", scope=scopes["core"]), word("barrier", scope=scopes["launch"])
        found = _FIXED[isa.hash] = _Fixed(*barriers, word("halt"), phase.low, 1 << phase.width)
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
    """One image of all parts; see `Linkage`. `group` names the core types of a core group in launch order."""
    parts = [part for each in levels for part in each]
    images = [part.image for part in parts]
    programs = [busy(image) for image in images]
    cores = cores_of(programs, [part.first for part in parts], group)
    codes = [
        codes_of(isa, number, part.image, part.args, here)
        for number, (part, here) in enumerate(zip(parts, programs, strict=True))
    ]
    numbers = iter(range(len(parts)))
    own = [[next(numbers) for _ in level] for level in levels]
    return Linkage(name, isa, own, codes, cores, n_args).image(images, programs, cores)


class Cores(NamedTuple):
    """On which cores of `groups` whole core groups, whose cores have the types `order`, the parts of a stack run.

    `spans` are, by core type, number of the part, its first core of this type, and the one after the last; `bounds` the cores
    at which parts begin or end.
    """

    groups: int
    order: tuple[str, ...]
    spans: Mapping[str, Sequence[tuple[int, int, int]]]
    bounds: Mapping[str, Sequence[int]]

    def key(self) -> Hashable:
        """What of it decides about programs: which parts begin and end with each other."""
        found: list[Hashable] = []
        for core_type, spans in self.spans.items():
            places = {core: at for at, core in enumerate(self.bounds[core_type])}
            found += [core_type, len(places)]
            for _, low, high in spans:
                found += [places[low], places[high]]
        return tuple(found)


def cores_of(programs: Sequence[Programs], firsts: Sequence[Mapping[str, int]], group: Sequence[str]) -> Cores:
    """The cores of parts that run these programs, by `firsts` on the cores of each type from these on."""
    spans: dict[str, list[tuple[int, int, int]]] = {}
    for part, (each, first) in enumerate(zip(programs, firsts, strict=True)):
        for core_type, (_, entries, _) in each.items():
            low = first.get(core_type, 0)
            spans.setdefault(core_type, []).append((part, low, low + len(entries)))
    groups, bounds = 0, {}
    for core_type, own in spans.items():
        cores = {0}
        for _, low, high in own:
            cores.add(low)
            cores.add(high)
        bounds[core_type] = sorted(cores)
        groups = max(groups, -(-bounds[core_type][-1] // group.count(core_type)))
    for core_type, some in bounds.items():
        end = groups * group.count(core_type)
        if some[-1] < end:
            some.append(end)
    return Cores(groups, tuple([each for each in group if each in spans]), spans, bounds)


class Linkage:
    """How images of one form become one image.

    `levels` are numbers of parts, whose code is `codes` by core type. CompileError when a core would have more grids than
    phases can be numbered.
    """

    def __init__(
        self,
        name: str,
        isa: Isa,
        levels: Sequence[Sequence[int]],
        codes: Sequence[Mapping[str, Code]],
        cores: Cores,
        n_args: int,
    ) -> None:
        self._name, self._isa_hash, self._n_args = name, isa.hash, n_args
        level_of = {part: level for level, parts in enumerate(levels) for part in parts}
        text = _Text(name, _fixed(isa))
        self._runs: dict[str, list[tuple[int, list[int]]]] = {}
        for core_type, spans in cores.spans.items():
            own: list[list[tuple[int, int, Code]]] = [[] for _ in levels]
            for part, low, high in spans:
                own[level_of[part]].append((low, high, codes[part][core_type]))
            self._runs[core_type] = _programs(text, own, cores.bounds[core_type])
        self._words = np.zeros(text.at, dtype=np.uint64)
        view = self._words.data
        for at, word in text.words:
            view[at] = word
        self._copies = [(code.part, code.start, code.stop, at) for code, at in text.codes]
        self._noted = tuple([at + grid for code, at in text.codes for grid in code.grids])
        self._phases = [(at, phase) for at, phase in zip(self._noted, text.phases, strict=True) if phase]
        self._reloc_words = np.concatenate([code.reloc_words + at for code, at in text.codes])
        self._reloc_args = np.concatenate([code.reloc_args for code, _ in text.codes])
        self._addends = [(code.part, code.own) for code, _ in text.codes]

    def places(self) -> Iterator[tuple[int, int, int]]:
        """By number of the part, the words of the image that are copies of its own: the first, and the one after the last."""
        for part, start, stop, at in self._copies:
            yield part, at, at + stop - start

    def image(self, images: Sequence[Image], programs: Sequence[Programs], cores: Cores) -> Image:
        """The images, in the order of the parts, as one; `programs` are what `busy` says of them.

        They may be on other cores than the parts, but `Cores.key` must be the same.
        """
        words = self._words.copy()
        for part, start, stop, at in self._copies:
            words[at : at + stop - start] = images[part].words[start:stop]
        view = words.data
        for at, phase in self._phases:
            view[at] += phase
        tables = [RelocTable.of(image.relocs).addends for image in images]
        addends = [tables[part] if own is None else tables[part][own] for part, own in self._addends]
        relocs = RelocTable.joined(self._reloc_words, self._reloc_args, np.concatenate(addends))
        runs: dict[str, tuple[Run, ...]] = {}
        for core_type, each in self._runs.items():
            first = {part: low for part, low, _ in cores.spans[core_type]}
            runs[core_type] = tuple(
                [
                    Run(low, high, pc, tuple([(programs[n][core_type][1], first[n]) for n in parts]))
                    for (low, high), (pc, parts) in zip(pairwise(cores.bounds[core_type]), each, strict=True)
                ]
            )
        stacked = StackedEntries(cores.order, cores.groups, runs)
        return Image(self._name, self._isa_hash, words, stacked, relocs, self._n_args, self._noted)


def codes_of(isa: Isa, number: int, image: Image, args: Sequence[int], programs: Programs) -> dict[str, Code]:
    """What cores of each type run of an image that is part `number`.

    `args` are those of `Part`, `programs` what `busy` says of the image. CompileError when one does not end in halt.
    """
    fixed = _fixed(isa)
    grids = grid_words(isa, image)
    relocs = RelocTable.of(image.relocs)
    words, own_args = relocs.words, relocs.args
    if len(own_args):
        own_args = np.array(args, dtype=np.int64)[own_args]
    found: dict[str, Code] = {}
    for core_type, (start, _, phases) in programs.items():
        stop = min((other for other, _, _ in programs.values() if other > start), default=len(image.words))
        if image.words[stop - 1] != fixed.halt:
            raise CompileError(f"the program at word {start} does not end in halt", image.name)
        if len(programs) == 1 and start == 0:
            found[core_type] = Code(number, start, stop - 1, grids, words, own_args, None, phases)
        else:
            own = _picked([at for at, word in enumerate(words.tolist()) if start <= word < stop])
            places = [grid - start for grid in grids if start <= grid < stop]
            found[core_type] = Code(number, start, stop - 1, places, words[own] - start, own_args[own], own, phases)
    return found


def _picked(numbers: Sequence[int]) -> slice | npt.NDArray[np.int64]:
    """What picks the elements of these ascending numbers from an array: a part of it costs a fraction of a selection."""
    if numbers and numbers[-1] - numbers[0] == len(numbers) - 1:
        return slice(numbers[0], numbers[-1] + 1)
    return np.array(numbers, dtype=np.int64)


class _Text:
    """The words of the stack under construction: `words` that the linker adds by place, and the parts with theirs."""

    def __init__(self, name: str, fixed: _Fixed) -> None:
        self.name = name
        self.fixed = fixed
        self.at = 0
        self.words: list[tuple[int, int]] = []
        self.codes: list[tuple[Code, int]] = []
        self.phases: list[int] = []

    def append(self, word: int) -> None:
        """Add a word of the linker's own."""
        self.words.append((self.at, word))
        self.at += 1

    def part(self, code: Code, phase: int) -> None:
        """Add a part; its phases are numbered from `phase`."""
        self.codes.append((code, self.at))
        self.phases += [phase << self.fixed.phase_low] * len(code.grids)
        self.at += code.stop - code.start


def _programs(
    text: _Text, levels: Sequence[Sequence[tuple[int, int, Code]]], bounds: Sequence[int]
) -> list[tuple[int, list[int]]]:
    """Write the programs of all cores of a type, given by level what cores from the first to before the second number run.

    Between two bounds all cores run the same parts. Gives for each pair of bounds the first word, and the parts.
    """
    runs = []
    for low, _ in pairwise(bounds):
        start, phase = text.at, 0
        run: list[int] = []
        for number, parts in enumerate(levels):
            if number:
                text.append(text.fixed.launch_barrier)
            shared = False
            for first, end, code in parts:
                if first <= low < end:
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
