"""Launches of a compiled kernel become one: what each may run beside, on which cores, with which arguments."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

from npuvm.compiler.compiled import CompiledKernel, Launch, TensorSpec
from npuvm.compiler.stack_entries import busy
from npuvm.compiler.stack_link import Linkage, Part, grid_words, most_phases
from npuvm.compiler.stack_order import Lifetime, levels_of, lifetimes_of, place_workspace
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa, RelocTable

__all__ = ["Placed", "in_one_launch", "plan_workspace", "stack_launches", "stacked"]


@dataclass(frozen=True, slots=True)
class Placed:
    """A launch of a stack; `first` gives its first core by core type, None leaves the place to the linker."""

    launch: Launch
    first: Mapping[str, int] | None = None


def plan_workspace(tensors: Sequence[TensorSpec], launches: Sequence[Launch]) -> tuple[TensorSpec, ...]:
    """The tensors with offsets for those of kind workspace; bytes that no later launch needs are used again."""
    names = [each.name for each in tensors if each.kind == "workspace"]
    return _with_offsets(tensors, lifetimes_of(names, [launch.args for launch in launches], range(len(launches))))


def _with_offsets(tensors: Sequence[TensorSpec], lifetimes: Mapping[str, Lifetime]) -> tuple[TensorSpec, ...]:
    sizes = {each.name: each.nbytes for each in tensors if each.kind == "workspace"}
    if not sizes:
        return tuple(tensors)
    offsets = place_workspace(sizes, lifetimes)
    return tuple(
        [
            TensorSpec(each.name, each.kind, each.dtype, each.shape, offsets[each.name])
            if each.name in offsets
            else each
            for each in tensors
        ]
    )


_STACKS: OrderedDict[Hashable, tuple[NpuConfig, _Stacking]] = OrderedDict()
_KEPT_FORMS = 256
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
    kinds = tuple([(each.name, each.kind) for each in kernel.tensors])
    forms = tuple([_form(each, isa) for each in launches])
    key = (kernel.name, id(chip), isa.hash, kinds, forms)
    found = _STACKS.get(key)
    if found is None:
        found = _STACKS[key] = chip, _Stacking(kernel.name, kinds, launches, chip, isa)
        if len(_STACKS) > _KEPT_FORMS:
            _STACKS.popitem(last=False)
    _STACKS.move_to_end(key)
    stacking = found[1]
    made = stacking.launches([each.launch for each in launches])
    tensors = _with_offsets(kernel.tensors, stacking.lifetimes)
    return CompiledKernel(kernel.name, made, tensors, kernel.outputs, kernel.seconds)


def _form(placed: Placed, isa: Isa) -> Hashable:
    """What of a launch decides how it is linked: equal forms differ in sizes, strides and addresses only."""
    launch, first = placed.launch, placed.first
    image = launch.image
    relocs: Hashable
    if isinstance(image.relocs, RelocTable):
        relocs = image.relocs.words.tobytes(), image.relocs.args.tobytes()
    else:
        relocs = tuple([(each.word, each.arg) for each in image.relocs])
    grids = image.grids if image.grids is not None else tuple(grid_words(isa, image))
    cores = tuple([(core, start, len(e), phases) for core, (start, e, phases) in busy(image).items()])
    place = None if first is None else tuple(first.items())
    return launch.segment, launch.args, launch.writes, len(image.words), grids, relocs, cores, place


class _Stacking:
    """How launches of one form become one: levels, and for each launch that is made how its images are linked."""

    def __init__(
        self, name: str, kinds: Sequence[tuple[str, str]], launches: Sequence[Placed], chip: NpuConfig, isa: Isa
    ) -> None:
        params = {name for name, kind in kinds if kind == "param"}
        workspace = {name for name, kind in kinds if kind == "workspace"}
        uses = [
            (each.launch.args, each.launch.writes or tuple(arg for arg in each.launch.args if arg not in params))
            for each in launches
        ]
        levels = levels_of(uses)
        self.lifetimes = lifetimes_of(workspace, [each.launch.args for each in launches], levels)
        by_level: list[list[tuple[int, Placed]]] = [[] for _ in range(max(levels, default=-1) + 1)]
        for number, (each, level) in enumerate(zip(launches, levels, strict=True)):
            by_level[level].append((number, each))
        cuts = _cut(by_level, most_phases(isa))
        self._made = [_Joined(f"{name}.{number}", cut, chip, isa) for number, cut in enumerate(cuts)]

    def launches(self, launches: Sequence[Launch]) -> tuple[Launch, ...]:
        """The launches, in program order, as few."""
        return tuple([each.launch(launches) for each in self._made])


class _Joined:
    """One launch of a stack, made of those with `numbers`."""

    def __init__(self, name: str, levels: Sequence[Sequence[tuple[int, Placed]]], chip: NpuConfig, isa: Isa) -> None:
        self._numbers = [number for level in levels for number, _ in level]
        parts = [each for level in levels for _, each in level]
        self._args = tuple(dict.fromkeys(arg for each in parts for arg in each.launch.args))
        names = [each.launch.segment for each in parts]
        self._segment = "+".join(names) if len(names) <= _NAMED else f"{names[0]}..{names[-1]}"
        self._writes = tuple(dict.fromkeys(name for each in parts for name in each.launch.writes))
        self._linkage: Linkage | None = None
        if len(parts) > 1 or parts[0].first:
            numbers = {arg: index for index, arg in enumerate(self._args)}
            placed = [_place([each for _, each in level], numbers, chip) for level in levels]
            self._linkage = Linkage(name, isa, chip.group_core_types, placed, len(self._args))

    def launch(self, launches: Sequence[Launch]) -> Launch:
        if self._linkage is None:
            return launches[self._numbers[0]]
        image = self._linkage.image([launches[number].image for number in self._numbers])
        return Launch(self._segment, "stack", image, self._args, self._writes)


def _cut(levels: Sequence[Sequence[tuple[int, Placed]]], most: int) -> list[list[list[tuple[int, Placed]]]]:
    """Levels in runs of at most `most` grids for a core of any type; a level that alone has more is cut too."""
    cuts: list[list[list[tuple[int, Placed]]]] = []
    used: dict[str, int] = {}
    for level in levels:
        here: list[tuple[int, Placed]] = []
        fresh = True
        for number, each in level:
            wanted = {core: phases for core, (_, _, phases) in busy(each.launch.image).items()}
            if not cuts or any(used.get(core, 0) + count > most for core, count in wanted.items()):
                here, fresh, used = [], True, {}
                cuts.append([])
            if fresh:
                cuts[-1].append(here)
                fresh = False
            here.append((number, each))
            for core, count in wanted.items():
                used[core] = used.get(core, 0) + count
    return cuts


def _place(level: Sequence[Placed], numbers: Mapping[str, int], chip: NpuConfig) -> list[Part]:
    """Parts of a level: where none is given, the cores after those of the part before, or from the first on anew."""
    group = chip.group_core_types
    taken: dict[str, int] = dict.fromkeys(group, 0)
    parts = []
    for each in level:
        image, args = each.launch.image, [numbers[arg] for arg in each.launch.args]
        first = each.first
        if first is None:
            counts = {core: len(entries) for core, (_, entries, _) in busy(image).items()}
            # An image on cores of several types keeps whole core groups.
            wide = 1 if len(counts) > 1 else 0
            base = max(-(-taken[core] // group.count(core)) for core in counts) if wide else 0
            first = {core: base * group.count(core) if wide else taken[core] for core in counts}
            if any(first[core] + n > chip.core.count * group.count(core) for core, n in counts.items()):
                first = dict.fromkeys(counts, 0)
            for core, n in counts.items():
                taken[core] = first[core] + n
        parts.append(Part(image, first, args))
    return parts
