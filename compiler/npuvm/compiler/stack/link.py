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
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from npuvm.compiler.errors import CompileError
from npuvm.compiler.stack.entries import Programs, Run, StackedEntries, busy
from npuvm.isa import Image, Insn, Isa, RelocTable, encode

__all__ = [
    "Code",
    "Cores",
    "Form",
    "Linkage",
    "Part",
    "codes_of",
    "cores_of",
    "form_of",
    "grid_words",
    "link",
    "most_phases",
    "numbers_of",
]

_KEPT_FORMS = 1024


@dataclass(frozen=True, slots=True)
class Part:
    """An image in a stack. `first` is, by core type, the number of its first core among those of the type; `args` gives the
    stack's argument for each argument of the image."""

    image: Image
    first: Mapping[str, int]
    args: Sequence[int]


class Form(NamedTuple):
    """What of an image decides how it is linked: how many words it has, where its grids begin, the words and arguments of its
    relocations as bytes, and by core type the first word of its program and the phases."""

    words: int
    grids: tuple[int, ...]
    reloc_words: bytes
    reloc_args: bytes
    programs: tuple[tuple[str, int, int], ...]


class Code(NamedTuple):
    """What the cores of one type run of an image: its words `start` to `stop`, without the halt.

    `grids`, as many phases as its entries have, and `reloc_words` count from `start`. `own` picks the relocations of these
    words, None when it is all of them.
    """

    start: int
    stop: int
    grids: Sequence[int]
    reloc_words: Sequence[int]
    reloc_args: Sequence[int]
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
    cores = cores_of(programs, numbers_of(programs), [part.first for part in parts], group)
    forms = [form_of(isa, image, here) for image, here in zip(images, programs, strict=True)]
    numbers = iter(range(len(parts)))
    own = [[next(numbers) for _ in level] for level in levels]
    linkage = Linkage(name, isa, own, images, forms, [part.args for part in parts], cores, n_args)
    return linkage.image(images, programs, cores)


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


def numbers_of(programs: Sequence[Programs]) -> tuple[int, ...]:
    """How many cores run each program of each part."""
    return tuple([len(entries) for each in programs for _, entries, _ in each.values()])


def cores_of(
    programs: Sequence[Programs], numbers: Sequence[int], firsts: Sequence[Mapping[str, int]], group: Sequence[str]
) -> Cores:
    """The cores of parts that run these programs, by `firsts` on the cores of each type from these on."""
    spans: dict[str, list[tuple[int, int, int]]] = {}
    number = iter(numbers)
    for part, (each, first) in enumerate(zip(programs, firsts, strict=True)):
        for core_type in each:
            low = first.get(core_type, 0)
            spans.setdefault(core_type, []).append((part, low, low + next(number)))
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

    `levels` are numbers of parts, whose images are like `images`, of these `forms`; `args` are those of `Part`. CompileError
    when a program does not end in halt, or a core would have more grids than phases can be numbered.
    """

    def __init__(
        self,
        name: str,
        isa: Isa,
        levels: Sequence[Sequence[int]],
        images: Sequence[Image],
        forms: Sequence[Form],
        args: Sequence[Sequence[int]],
        cores: Cores,
        n_args: int,
    ) -> None:
        self._name, self._isa_hash, self._n_args = name, isa.hash, n_args
        fixed = _fixed(isa)
        codes = [_ended(fixed, image, codes_of(form)) for image, form in zip(images, forms, strict=True)]
        level_of = {part: level for level, parts in enumerate(levels) for part in parts}
        text = _Text(name, fixed)
        self._runs: dict[str, list[tuple[int, list[int]]]] = {}
        for core_type, spans in cores.spans.items():
            own: list[list[tuple[int, int, int, Code]]] = [[] for _ in levels]
            for part, low, high in spans:
                own[level_of[part]].append((low, high, part, codes[part][core_type]))
            self._runs[core_type] = _programs(text, own, cores.bounds[core_type])
        self._words = np.zeros(text.at, dtype=np.uint64)
        view = self._words.data
        for at, word in text.words:
            view[at] = word
        self._copies = [(part, code.start, code.stop, at) for part, code, at in text.codes]
        self._noted = tuple([at + grid for _, code, at in text.codes for grid in code.grids])
        self._phases = [(at, phase) for at, phase in zip(self._noted, text.phases, strict=True) if phase]
        words = [at + word for _, code, at in text.codes for word in code.reloc_words]
        numbers = [args[part][arg] for part, code, _ in text.codes for arg in code.reloc_args]
        self._reloc_words, self._reloc_args = np.array(words, dtype=np.int64), np.array(numbers, dtype=np.int64)
        self._addends = [(part, code.own) for part, code, _ in text.codes]

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


def form_of(isa: Isa, image: Image, programs: Programs) -> Form:
    """The form of an image; `programs` are what `busy` says of it."""
    relocs = RelocTable.of(image.relocs)
    own = tuple([(core, start, phases) for core, (start, _, phases) in programs.items()])
    grids = image.grids if image.grids is not None else tuple(grid_words(isa, image))
    return Form(len(image.words), grids, relocs.words.tobytes(), relocs.args.tobytes(), own)


@lru_cache(_KEPT_FORMS)
def codes_of(form: Form) -> Mapping[str, Code]:
    """What cores of each type run of images of a form."""
    grids, programs = form.grids, form.programs
    words, args = (np.frombuffer(each, dtype=np.int64).tolist() for each in (form.reloc_words, form.reloc_args))
    found: dict[str, Code] = {}
    for core_type, start, phases in programs:
        stop = min((other for _, other, _ in programs if other > start), default=form.words)
        if len(programs) == 1 and start == 0:
            found[core_type] = Code(start, stop - 1, grids, words, args, None, phases)
        else:
            own = [at for at, word in enumerate(words) if start <= word < stop]
            places, own_args = [words[at] - start for at in own], [args[at] for at in own]
            own_grids = [grid - start for grid in grids if start <= grid < stop]
            found[core_type] = Code(start, stop - 1, own_grids, places, own_args, _picked(own), phases)
    return found


def _ended(fixed: _Fixed, image: Image, codes: Mapping[str, Code]) -> Mapping[str, Code]:
    """The codes of an image whose programs end in halt."""
    for code in codes.values():
        if image.words[code.stop] != fixed.halt:
            raise CompileError(f"the program at word {code.start} does not end in halt", image.name)
    return codes


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
        self.codes: list[tuple[int, Code, int]] = []
        self.phases: list[int] = []

    def append(self, word: int) -> None:
        """Add a word of the linker's own."""
        self.words.append((self.at, word))
        self.at += 1

    def part(self, part: int, code: Code, phase: int) -> None:
        """Add a part, given by its number; its phases are numbered from `phase`."""
        self.codes.append((part, code, self.at))
        self.phases += [phase << self.fixed.phase_low] * len(code.grids)
        self.at += code.stop - code.start


def _programs(
    text: _Text, levels: Sequence[Sequence[tuple[int, int, int, Code]]], bounds: Sequence[int]
) -> list[tuple[int, list[int]]]:
    """Write the programs of all cores of a type, given by level what part cores from the first to before the second number run.

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
            for first, end, part, code in parts:
                if first <= low < end:
                    if shared:
                        text.append(text.fixed.core_barrier)
                    text.part(part, code, phase)
                    phase += code.phases
                    run.append(part)
                    shared = True
        text.append(text.fixed.halt)
        if phase > text.fixed.phases:
            message = f"{phase} grids on one core; allowed: {text.fixed.phases}, so cut the stack into several launches"
            raise CompileError(message, text.name)
        runs.append((start, run))
    return runs
