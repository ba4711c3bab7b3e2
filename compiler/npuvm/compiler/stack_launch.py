"""Launches of a compiled kernel become one: what each may run beside, on which cores, with which arguments."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from npuvm.compiler.stack_entries import busy
from npuvm.compiler.stack_link import Part, link, most_phases
from npuvm.compiler.stack_order import levels_of, lifetimes_of, place_workspace

if TYPE_CHECKING:
    from npuvm.compiler.compiled import CompiledKernel, Launch, TensorSpec
    from npuvm.hw.config import NpuConfig
    from npuvm.isa import Isa

__all__ = ["Placed", "in_one_launch", "plan_workspace", "stack_launches", "stacked"]


@dataclass(frozen=True, slots=True)
class Placed:
    """A launch of a stack; `first` gives its first core by core type, None leaves the place to the linker."""

    launch: Launch
    first: Mapping[str, int] | None = None


def plan_workspace(
    tensors: Sequence[TensorSpec], launches: Sequence[Launch], levels: Sequence[int] | None = None
) -> tuple[TensorSpec, ...]:
    """The tensors with offsets for those of kind workspace; bytes that no later level needs are used again.

    Without `levels` every launch is a level of its own.
    """
    sizes = {each.name: each.nbytes for each in tensors if each.kind == "workspace"}
    if not sizes:
        return tuple(tensors)
    touched = [launch.args for launch in launches]
    offsets = place_workspace(sizes, lifetimes_of(sizes, touched, range(len(launches)) if levels is None else levels))
    return tuple(replace(each, offset=offsets[each.name]) if each.name in offsets else each for each in tensors)


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
    params = {each.name for each in kernel.tensors if each.kind == "param"}
    uses = [(each.launch.args, each.launch.writes or tuple(set(each.launch.args) - params)) for each in launches]
    levels = levels_of(uses)
    tensors = plan_workspace(kernel.tensors, [each.launch for each in launches], levels)
    by_level: list[list[Placed]] = [[] for _ in range(max(levels, default=-1) + 1)]
    for each, level in zip(launches, levels, strict=True):
        by_level[level].append(each)
    cuts = _cut(by_level, most_phases(isa))
    made = tuple(_one(kernel.name, number, cut, chip, isa) for number, cut in enumerate(cuts))
    return replace(kernel, launches=made, tensors=tensors)


def _cut(levels: Sequence[Sequence[Placed]], most: int) -> list[list[Sequence[Placed]]]:
    """Levels in runs of at most `most` grids for a core of any type; a level that alone has more is cut too."""
    cuts: list[list[Sequence[Placed]]] = []
    used: dict[str, int] = {}
    for level in levels:
        here: list[Placed] = []
        fresh = True
        for each in level:
            wanted = {core: phases for core, (_, _, phases) in busy(each.launch.image).items()}
            if not cuts or any(used.get(core, 0) + count > most for core, count in wanted.items()):
                here, fresh, used = [], True, {}
                cuts.append([])
            if fresh:
                cuts[-1].append(here)
                fresh = False
            here.append(each)
            for core, count in wanted.items():
                used[core] = used.get(core, 0) + count
    return cuts


def _one(name: str, number: int, levels: Sequence[Sequence[Placed]], chip: NpuConfig, isa: Isa) -> Launch:
    launches = [each.launch for level in levels for each in level]
    if len(launches) == 1 and not (levels[0][0].first or {}):
        return launches[0]
    args = tuple(dict.fromkeys(arg for launch in launches for arg in launch.args))
    numbers = {arg: index for index, arg in enumerate(args)}
    parts = [_place(level, numbers, chip) for level in levels]
    segment = "+".join(launch.segment for launch in launches)
    image = link(f"{name}.{number}", isa, chip.group_core_types, parts, len(args))
    writes = tuple(dict.fromkeys(each for launch in launches for each in launch.writes))
    return replace(launches[0], segment=segment, kind="stack", image=image, args=args, writes=writes)


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
