"""Launches of a compiled kernel become one: what each may run beside, on which cores, with which arguments."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from typing import NamedTuple

from npuvm.compiler.program.compiled import CompiledKernel, Launch, TensorSpec
from npuvm.compiler.stack.entries import Programs, busy
from npuvm.compiler.stack.link import Cores, Form, Linkage, cores_of, form_of, most_phases, numbers_of
from npuvm.compiler.stack.order import Lifetime, levels_of, lifetimes_of, place_workspace, side_by_side
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = [
    "LinkedPart",
    "Placed",
    "in_one_launch",
    "joined_launches",
    "linked_parts",
    "plan_workspace",
    "stack_launches",
    "stacked",
]


_KEPT_FORMS = 256


@dataclass(frozen=True, slots=True)
class Placed:
    """A launch of a stack; `first` gives its first core by core type, None leaves the place to the linker."""

    launch: Launch
    first: Mapping[str, int] | None = None


def plan_workspace(tensors: Sequence[TensorSpec], launches: Sequence[Launch]) -> tuple[TensorSpec, ...]:
    """The tensors with offsets for those of kind workspace; bytes that no later launch needs are used again."""
    sizes = {each.name: each.nbytes for each in tensors if each.kind == "workspace"}
    if len(sizes) < 2:
        return _with_offsets(tensors, dict.fromkeys(sizes, 0))
    if len(launches) == 1 and sizes.keys() <= set(launches[0].args):
        return _with_offsets(tensors, side_by_side(sizes))
    kinds = tuple([(each.name, each.kind) for each in tensors])
    uses = tuple([(each.args, each.writes, each.beside, each.continues) for each in launches])
    return _with_offsets(tensors, place_workspace(sizes, _lifetimes(kinds, uses)))


_Use = tuple[tuple[str, ...], tuple[str, ...], bool, bool]
"""Of a launch what it touches, what it writes of that where it is known, and whether it is beside the one before, or continues
it."""


@lru_cache(_KEPT_FORMS)
def _lifetimes(kinds: tuple[tuple[str, str], ...], launches: tuple[_Use, ...]) -> Mapping[str, Lifetime]:
    """When tensors of a workspace are used; shapes change nothing about that."""
    names = [name for name, kind in kinds if kind == "workspace"]
    params = {name for name, kind in kinds if kind == "param"}
    levels = _levels(params, launches) if any(continues for *_, continues in launches) else range(len(launches))
    return lifetimes_of(names, [args for args, *_ in launches], levels)


def _levels(params: Collection[str], launches: Sequence[_Use]) -> list[int]:
    """When each launch runs: those that continue others are one launch with them, in which some run side by side."""
    levels: list[int] = []
    at = 0
    while at < len(launches):
        stop = next((n for n in range(at + 1, len(launches)) if not launches[n][-1]), len(launches))
        first = max(levels, default=-1) + 1
        levels += [first + level for level in _levels_in_one(params, launches[at:stop])]
        at = stop
    return levels


def _levels_in_one(params: Collection[str], launches: Sequence[_Use]) -> list[int]:
    """The level of each of some launches that become one."""
    beside = {number for number, (_, _, is_beside, _) in enumerate(launches) if is_beside}
    return levels_of([_uses(args, writes, params) for args, writes, *_ in launches], beside)


def _uses(
    args: tuple[str, ...], writes: tuple[str, ...], params: Collection[str]
) -> tuple[Collection[str], Collection[str]]:
    """What a launch touches, and what it writes of that."""
    return args, writes or tuple([arg for arg in args if arg not in params])


def _with_offsets(tensors: Sequence[TensorSpec], offsets: Mapping[str, int]) -> tuple[TensorSpec, ...]:
    """The tensors with these offsets."""
    if not offsets:
        return tuple(tensors)
    return tuple(
        [
            TensorSpec(each.name, each.kind, each.dtype, each.shape, offsets[each.name])
            if offsets.get(each.name, each.offset) != each.offset
            else each
            for each in tensors
        ]
    )


_STACKS: OrderedDict[Hashable, tuple[NpuConfig, _Stacking]] = OrderedDict()
_KEPT_ORDERS = 256
_NAMED = 6
"""Most segments that a launch is named after one by one."""
_STACKED: OrderedDict[tuple[int, int], tuple[CompiledKernel, NpuConfig, CompiledKernel]] = OrderedDict()
_KEPT_STACKS = 4096


def stacked(kernel: CompiledKernel, chip: NpuConfig, isa: Isa) -> CompiledKernel:
    """As `in_one_launch`; kept for the kernels used last, so that the same one gives the same object."""
    key = (id(kernel), id(chip))
    found = _STACKED.get(key)
    if found is None:
        made = in_one_launch(kernel, chip, isa)
        # Kernel and chip are kept, so that no others can have their ids.
        found = _STACKED[key] = kernel, chip, made
        if len(_STACKED) > _KEPT_STACKS:
            _STACKED.popitem(last=False)
    _STACKED.move_to_end(key)
    return found[2]


def in_one_launch(kernel: CompiledKernel, chip: NpuConfig, isa: Isa) -> CompiledKernel:
    """The kernel with its launches in one."""
    return stack_launches(kernel, [Placed(launch) for launch in kernel.launches], chip, isa)


def stack_launches(kernel: CompiledKernel, launches: Sequence[Placed], chip: NpuConfig, isa: Isa) -> CompiledKernel:
    """The kernel with `launches`, which are in program order, in as few launches as the numbers of grid phases allow.

    Launches that do not depend on each other share a level, on cores of their own where these suffice.
    """
    stacking, parts = _stacking(kernel.name, kernel.tensors, launches, chip, isa)
    made = stacking.launches(parts)
    sizes = {each.name: each.nbytes for each in kernel.tensors if each.kind == "workspace"}
    tensors = _with_offsets(kernel.tensors, place_workspace(sizes, stacking.lifetimes))
    return CompiledKernel(kernel.name, made, tensors, kernel.outputs, kernel.seconds)


def joined_launches(
    name: str, tensors: Sequence[TensorSpec], launches: Sequence[Launch], chip: NpuConfig, isa: Isa
) -> tuple[Launch, ...]:
    """Launches in program order as one, or as few as can be; `tensors` are those that they touch."""
    stacking, parts = _stacking(name, tensors, [Placed(each) for each in launches], chip, isa)
    return stacking.launches(parts)


@dataclass(frozen=True, slots=True)
class LinkedPart:
    """A launch that became a part of another one, and the words of it there: (first, one after the last) of each copy."""

    launch: Launch
    words: tuple[tuple[int, int], ...]


def linked_parts(kernel: CompiledKernel, chip: NpuConfig, isa: Isa) -> list[tuple[Launch, list[LinkedPart]]]:
    """The launches that `in_one_launch` makes of a kernel's, and of which of these each consists."""
    placed = [Placed(launch) for launch in kernel.launches]
    stacking, parts = _stacking(kernel.name, kernel.tensors, placed, chip, isa)
    return stacking.parts(parts)


class _Parts(NamedTuple):
    """Launches that become one, what `busy` says of their images, and the forms of these."""

    launches: Sequence[Launch]
    programs: Sequence[Programs]
    forms: Sequence[Form]


def _stacking(
    name: str, tensors: Sequence[TensorSpec], launches: Sequence[Placed], chip: NpuConfig, isa: Isa
) -> tuple[_Stacking, _Parts]:
    """How launches that touch the same become one, kept for those used last; with what is linked.

    Of `tensors` only those that the launches touch count: what else a kernel has is not the same for all of its shapes.
    """
    kind_of = {each.name: each.kind for each in tensors}
    touched = dict.fromkeys([arg for each in launches for arg in each.launch.args])
    kinds = tuple([(name, kind_of[name]) for name in touched])
    programs = [busy(each.launch.image) for each in launches]
    uses = tuple([_used(each, here) for each, here in zip(launches, programs, strict=True)])
    key = (name, id(chip), isa.hash, kinds, uses)
    found = _STACKS.get(key)
    if found is None:
        found = _STACKS[key] = chip, _Stacking(name, kinds, launches, programs, chip, isa)
        if len(_STACKS) > _KEPT_FORMS:
            _STACKS.popitem(last=False)
    _STACKS.move_to_end(key)
    forms = [form_of(isa, each.launch.image, here) for each, here in zip(launches, programs, strict=True)]
    return found[1], _Parts([each.launch for each in launches], programs, forms)


def _used(placed: Placed, programs: Programs) -> Hashable:
    """What of a launch decides about levels and cores: what it touches, where it is placed, and how many phases it has."""
    launch, first = placed.launch, placed.first
    place = None if first is None else tuple(first.items())
    phases = tuple([(core, count) for core, (_, _, count) in programs.items()])
    return launch.segment, launch.args, launch.writes, launch.beside, place, phases


class _Stacking:
    """How launches that touch the same become one: levels, and for each launch that is made how its images are linked."""

    def __init__(
        self,
        name: str,
        kinds: Sequence[tuple[str, str]],
        launches: Sequence[Placed],
        programs: Sequence[Programs],
        chip: NpuConfig,
        isa: Isa,
    ) -> None:
        params = {name for name, kind in kinds if kind == "param"}
        workspace = {name for name, kind in kinds if kind == "workspace"}
        uses = [(each.launch.args, each.launch.writes, each.launch.beside, each.launch.continues) for each in launches]
        levels = _levels_in_one(params, uses)
        self._lifetimes = partial(lifetimes_of, workspace, [each.launch.args for each in launches], levels)
        by_level: list[list[tuple[int, Placed]]] = [[] for _ in range(max(levels, default=-1) + 1)]
        for number, (each, level) in enumerate(zip(launches, levels, strict=True)):
            by_level[level].append((number, each))
        cuts = _cut(by_level, programs, most_phases(isa))
        self._made = [_Joined(f"{name}.{number}", cut, chip, isa) for number, cut in enumerate(cuts)]

    @cached_property
    def lifetimes(self) -> Mapping[str, Lifetime]:
        """When tensors of the workspace are used; not every stack has one of its own."""
        return self._lifetimes()

    def launches(self, parts: _Parts) -> tuple[Launch, ...]:
        """The launches, in program order, as few."""
        return tuple([each.launch(parts) for each in self._made])

    def parts(self, parts: _Parts) -> list[tuple[Launch, list[LinkedPart]]]:
        """The same, with what each consists of."""
        return [(each.launch(parts), each.parts(parts)) for each in self._made]


_FROM_THE_FIRST: Mapping[str, int] = {}
"""The first core of each type: that of a part which is alone in its level."""

_Laid = tuple[Linkage, Cores]
"""How parts with so many entries are linked, and on which cores they are."""


class _Joined:
    """One launch of a stack, made of those with the numbers in `levels`: a linkage for each order of their cores and the forms
    of their images."""

    def __init__(self, name: str, levels: Sequence[Sequence[tuple[int, Placed]]], chip: NpuConfig, isa: Isa) -> None:
        self._name, self._chip, self._isa = name, chip, isa
        self._levels = [[(number, each.first) for number, each in level] for level in levels]
        self._numbers = [number for level in levels for number, _ in level]
        parts = [each for level in levels for _, each in level]
        self._args = tuple(dict.fromkeys(arg for each in parts for arg in each.launch.args))
        names = [each.launch.segment for each in parts]
        self._segment = "+".join(names) if len(names) <= _NAMED else f"{names[0]}..{names[-1]}"
        self._writes = tuple(dict.fromkeys(name for each in parts for name in each.launch.writes))
        self._alone = len(parts) == 1 and not parts[0].first
        self._linkages: OrderedDict[Hashable, Linkage] = OrderedDict()
        self._laid: OrderedDict[Hashable, _Laid] = OrderedDict()

    def launch(self, parts: _Parts) -> Launch:
        """The launch of those with the numbers of this one."""
        if self._alone:
            return parts.launches[self._numbers[0]]
        own = self._own(parts)
        linkage, cores = self._laid_out(own)
        image = linkage.image([each.image for each in own.launches], own.programs, cores)
        return Launch(self._segment, "stack", image, self._args, self._writes)

    def parts(self, parts: _Parts) -> list[LinkedPart]:
        """What the launch consists of, in program order."""
        if self._alone:
            only = parts.launches[self._numbers[0]]
            return [LinkedPart(only, ((0, len(only.image.words)),))]
        linkage = self._laid_out(self._own(parts))[0]
        words: dict[int, list[tuple[int, int]]] = {}
        for part, start, stop in linkage.places():
            words.setdefault(self._numbers[part], []).append((start, stop))
        return [LinkedPart(parts.launches[number], tuple(words[number])) for number in sorted(words)]

    def _own(self, parts: _Parts) -> _Parts:
        """The parts of this launch, level by level."""
        launches, programs, forms = parts
        own = self._numbers
        return _Parts([launches[at] for at in own], [programs[at] for at in own], [forms[at] for at in own])

    def _laid_out(self, own: _Parts) -> _Laid:
        """How these parts are linked, kept for the latest."""
        counts = numbers_of(own.programs)
        key = (counts, *own.forms)
        laid = self._laid.get(key)
        if laid is None:
            laid = self._laid[key] = self._lay(own, counts)
            if len(self._laid) > _KEPT_ORDERS:
                self._laid.popitem(last=False)
        return laid

    def _lay(self, own: _Parts, counts: Sequence[int]) -> _Laid:
        """Lay out parts that have as many entries as these, `counts`."""
        firsts: list[Mapping[str, int]] = []
        for level in self._levels:
            if len(level) == 1 and level[0][1] is None:
                firsts.append(_FROM_THE_FIRST)
            else:
                programs = own.programs[len(firsts) :]
                firsts += _place([(each, given) for each, (_, given) in zip(programs, level, strict=False)], self._chip)
        cores = cores_of(own.programs, counts, firsts, self._chip.group_core_types)
        key = (cores.key(), *own.forms)
        linkage = self._linkages.get(key)
        if linkage is None:
            linkage = self._linkages[key] = self._linked(own, firsts, cores)
            if len(self._linkages) > _KEPT_ORDERS:
                self._linkages.popitem(last=False)
        return linkage, cores

    def _linked(self, own: _Parts, firsts: Sequence[Mapping[str, int]], cores: Cores) -> Linkage:
        placed = [(part, *each) for part, each in enumerate(zip(firsts, own.programs, strict=True))]
        levels: list[list[int]] = []
        for level in self._levels:
            here, placed = placed[: len(level)], placed[len(level) :]
            levels += [[here[0][0]]] if len(here) == 1 else _groups_apart(here)
        numbers = {arg: index for index, arg in enumerate(self._args)}
        args = [[numbers[arg] for arg in each.args] for each in own.launches]
        images = [each.image for each in own.launches]
        return Linkage(self._name, self._isa, levels, images, own.forms, args, cores, len(self._args))


def _groups_apart(level: Sequence[tuple[int, Mapping[str, int], Programs]]) -> list[list[int]]:
    """A level as several where images on whole core groups share a group: semaphores of a group are set up once in a level.

    Parts are given with their first cores by type, and what they run.
    """
    found: list[list[int]] = [[]]
    spans: list[dict[str, tuple[int, int]]] = []
    for part, first, programs in level:
        if len(programs) > 1:
            own = {core: (first.get(core, 0), len(entries)) for core, (_, entries, _) in programs.items()}
            if any(_meet(own, other) for other in spans):
                found.append([])
                spans = []
            spans.append(own)
        found[-1].append(part)
    return found


def _meet(one: Mapping[str, tuple[int, int]], other: Mapping[str, tuple[int, int]]) -> bool:
    """Whether two images, given by the first core of each type and their number, have a core in common."""
    return any(
        one[core][0] < other[core][0] + other[core][1] and other[core][0] < one[core][0] + one[core][1]
        for core in one.keys() & other.keys()
    )


def _cut(
    levels: Sequence[Sequence[tuple[int, Placed]]], programs: Sequence[Programs], most: int
) -> list[list[list[tuple[int, Placed]]]]:
    """Levels in runs of at most `most` grids for a core of any type; a level that alone has more is cut too."""
    cuts: list[list[list[tuple[int, Placed]]]] = []
    used: dict[str, int] = {}
    for level in levels:
        here: list[tuple[int, Placed]] = []
        fresh = True
        for number, each in level:
            wanted = [(core, phases) for core, (_, _, phases) in programs[number].items()]
            if not cuts or any(used.get(core, 0) + count > most for core, count in wanted):
                here, fresh, used = [], True, {}
                cuts.append([])
            if fresh:
                cuts[-1].append(here)
                fresh = False
            here.append((number, each))
            for core, count in wanted:
                used[core] = used.get(core, 0) + count
    return cuts


def _place(level: Sequence[tuple[Programs, Mapping[str, int] | None]], chip: NpuConfig) -> list[Mapping[str, int]]:
    """First cores of a level's parts: where none is given, those after the part before, or from the first on anew."""
    group, groups = chip.group_core_types, chip.core.count
    taken: dict[str, int] = dict.fromkeys(group, 0)
    firsts: list[Mapping[str, int]] = []
    for programs, given in level:
        first = given
        if first is None and len(programs) == 1:
            ((core, (_, entries, _)),) = programs.items()
            low, number = taken[core], len(entries)
            if low + number > groups * group.count(core):
                low = 0
            first, taken[core] = {core: low}, low + number
        elif first is None:
            # An image on cores of several types keeps whole core groups.
            counts = [(core, len(entries), group.count(core)) for core, (_, entries, _) in programs.items()]
            base = max([-(-taken[core] // own) for core, _, own in counts])
            if any(base * own + n > groups * own for _, n, own in counts):
                base = 0
            first = {core: base * own for core, _, own in counts}
            for core, n, _ in counts:
                taken[core] = first[core] + n
        firsts.append(first)
    return firsts
