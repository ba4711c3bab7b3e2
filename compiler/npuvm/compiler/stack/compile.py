"""Compiles a stack of kernels: shares of the cores, every kernel for its share, and all launches linked."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from npuvm.compiler.errors import CompileError
from npuvm.compiler.graph.ops_conv import CUBE_OPS
from npuvm.compiler.language.kernel import Kernel
from npuvm.compiler.language.kinds import STACKED_KTYPES, pins_of_kind
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.program.compiled import CompiledKernel, Launch, TensorSpec
from npuvm.compiler.program.kernels import compile_segments
from npuvm.compiler.stack.kernels import Stack, names_of, output_shapes, params_of, stack_of
from npuvm.compiler.stack.launch import Placed, stack_launches
from npuvm.compiler.stack.work import apportion, estimate_work
from npuvm.hw.config import NpuConfig
from npuvm.isa import EvenEntries, Image, Isa

__all__ = ["StackPart", "compile_stack", "stack_parts"]

Shapes = Mapping[str, Sequence[int]]

_UNITS = ("cube", "vector")

_NO_PINS = Pins()
_WHOLE = Pins(split_k=1)
_APART, _APART_WHOLE = (replace(pins, stack="launches") for pins in (_NO_PINS, _WHOLE))
_SHARE_BITS = 3
"""Leading bits of a number of core groups that a kernel is planned for: 16 parts of a chip of 32."""

_KEPT_STACKS = 1024
_COMPILED: OrderedDict[Hashable, tuple[Stack, NpuConfig, CompiledKernel]] = OrderedDict()


def compile_stack(
    stack: Stack, shapes: Shapes, chip: NpuConfig, isa: Isa, buffering: str | None = None
) -> CompiledKernel:
    """The programs of a stack for the shapes of its parameters: one launch, more only where grids cannot be numbered.

    `buffering` is that of `Pins`, for the kernels that pin none. Programs are kept: the same shapes give the same object.
    CompileError when the shapes do not fit the kernels, or one of them cannot be compiled.
    """
    key = (id(stack), id(chip), isa.hash, buffering, tuple([(name, tuple(shape)) for name, shape in shapes.items()]))
    found = _COMPILED.get(key)
    if found is None:
        # Stack and chip are kept, so that no others can have their ids.
        found = _COMPILED[key] = stack, chip, _compile(stack, shapes, chip, isa, buffering)
        if len(_COMPILED) > _KEPT_STACKS:
            _COMPILED.popitem(last=False)
    _COMPILED.move_to_end(key)
    return found[2]


@dataclass(frozen=True, slots=True)
class StackPart:
    """A kernel of a stack, which stands at `path` and is compiled for `chip`, the whole or a part of it.

    `names` are its tensors' names in the whole, `launches` those that are linked.
    """

    path: str
    kernel: Kernel
    shapes: Shapes
    chip: NpuConfig
    pins: Pins
    names: Mapping[str, str]
    launches: tuple[Placed, ...]


def stack_parts(
    stack: Stack, shapes: Shapes, chip: NpuConfig, isa: Isa, buffering: str | None = None
) -> tuple[StackPart, ...]:
    """What `compile_stack` links: every kernel of the stack for its share of the cores. CompileError as there."""
    return tuple(_built(stack, shapes, chip, isa, buffering).parts)


def _compile(stack: Stack, shapes: Shapes, chip: NpuConfig, isa: Isa, buffering: str | None) -> CompiledKernel:
    build = _built(stack, shapes, chip, isa, buffering)
    kinds = {each.name: "param" for each in stack.params} | {each.name: "output" for each in stack.outputs}
    tensors = tuple(replace(each, kind=kinds.get(each.name, "workspace")) for each in build.tensors.values())
    order = {"param": 0, "output": 1, "workspace": 2}
    tensors = tuple(sorted(tensors, key=lambda each: order[each.kind]))
    whole = CompiledKernel(stack.name, (), tensors, tuple(each.name for each in stack.outputs), build.seconds)
    return stack_launches(whole, [launch for part in build.parts for launch in part.launches], chip, isa)


def _built(stack: Stack, shapes: Shapes, chip: NpuConfig, isa: Isa, buffering: str | None) -> _Build:
    for param in stack.params:
        if param.name not in shapes:
            raise CompileError(f"no shape for parameter '{param.name}'", stack.name)
    unknown = set(shapes) - {param.name for param in stack.params}
    if unknown:
        names = ", ".join(param.name for param in stack.params)
        raise CompileError(f"no parameter '{sorted(unknown)[0]}'; parameters: {names}", stack.name)
    build = _Build(chip, isa, buffering)
    sizes = {name: tuple(shape) for name, shape in shapes.items()}
    build.add(stack, sizes, {each: each for each in names_of(stack)}, "", None)
    return build


@dataclass(frozen=True, slots=True)
class _Area:
    """Core groups of a chip that a kernel has for itself: the number of the first, and how many."""

    first: int
    groups: int


_PARTS: dict[tuple[int, int], tuple[NpuConfig, NpuConfig]] = {}


def _part_of(chip: NpuConfig, groups: int) -> NpuConfig:
    """The chip with fewer core groups: always the same object, which is kept alive, so that plans made for it are found.

    It goes by the hash of the whole, by which its library of tiles is found: what is measured there is one core's.
    """
    key = (id(chip), groups)
    if key not in _PARTS:
        _ = chip.chip_hash  # cached, so the copy below has it
        core = chip.core.model_copy(update={"count": groups})
        _PARTS[key] = chip, chip.model_copy(update={"core": core})
    return _PARTS[key][1]


@dataclass
class _Build:
    """What is gathered of all kernels of a stack, under the names of the whole."""

    chip: NpuConfig
    isa: Isa
    buffering: str | None
    parts: list[StackPart] = field(default_factory=list)
    tensors: dict[str, TensorSpec] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def add(
        self,
        kernel: Kernel | Stack,
        shapes: dict[str, tuple[int, ...]],
        names: Mapping[str, str],
        path: str,
        area: _Area | None,
    ) -> dict[str, tuple[int, ...]]:
        """Compile a kernel or stack; returns the shapes of its outputs. `names` are its tensors' names in the whole."""
        if isinstance(kernel, Kernel):
            if kernel.graph.ktype not in STACKED_KTYPES:
                return self._kernel(kernel, shapes, names, path, area)
            kernel = stack_of(kernel.graph)
        known = dict(shapes)
        for number, (member, own) in enumerate(zip(kernel.members, self._areas(kernel, shapes, area), strict=True)):
            outer = {each: member.outer(each) for each in names_of(member.kernel)}
            # What a stack keeps to itself is named by where it stands.
            inner = {each: names.get(name, f"{path}{name}") for each, name in outer.items()}
            taken = {each.name: known[outer[each.name]] for each in params_of(member.kernel)}
            made = self.add(member.kernel, taken, inner, f"{path}k{number}.", own)
            known |= {outer[name]: shape for name, shape in made.items()}
        return {each.name: known[each.name] for each in kernel.outputs}

    def _kernel(
        self, kernel: Kernel, shapes: Shapes, names: Mapping[str, str], path: str, area: _Area | None
    ) -> dict[str, tuple[int, ...]]:
        pins = kernel.graph.pins
        if pins.stack is not None:
            pins = replace(pins, stack=None)
        if self.buffering is not None and pins.buffering is None:
            pins = replace(pins, buffering=self.buffering)
        # The sum of parts of k would keep all that runs beside it waiting.
        whole = pins.split_k is None and (area is not None or kernel.graph.ktype == "cube")
        chip = self.chip
        if area is not None:
            # Few parts of the chip, so that plans made for them are found again; cores are counted exactly below.
            cut = max(0, area.groups.bit_length() - _SHARE_BITS) if pins == _NO_PINS else 0
            groups = area.groups >> cut << cut
            chip = _part_of(self.chip, groups)
        # One program where the kernel says that it is one, else one for each segment, which start apart from each other.
        stack = pins_of_kind(kernel.graph).stack if kernel.graph.ktype == "mix" else "launches"
        if whole:
            pins = _WHOLE if pins == _NO_PINS else replace(pins, split_k=1)
        if stack == "launches" and pins in (_NO_PINS, _WHOLE):
            apart = _APART if pins == _NO_PINS else _APART_WHOLE
        else:
            apart = replace(pins, stack=stack)
        made = compile_segments(kernel.graph, shapes, chip, self.isa, apart, linked=False)
        for phase, seconds in made.seconds.items():
            self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds
        full = {each.name: names.get(each.name, f"{path}{each.name}") for each in made.tensors}
        for each in made.tensors:
            self.tensors.setdefault(full[each.name], replace(each, name=full[each.name]))
        placed = []
        for launch in made.launches:
            args, writes = (tuple(full[name] for name in listed) for listed in (launch.args, launch.writes))
            image = launch.image if area is None else self._spread(launch.image, area)
            moved = Launch(f"{path}{launch.segment}", launch.kind, image, args, writes, beside=launch.beside)
            placed.append(Placed(moved, None if area is None else self._first(area)))
        self.parts.append(StackPart(path, kernel, shapes, chip, pins, full, tuple(placed)))
        return {each.name: each.shape for each in made.tensors if each.kind == "output"}

    def _spread(self, image: Image, area: _Area) -> Image:
        """The image on all cores of an area, where its tiles can be cut for any number of cores."""
        entries = image.entries
        if not isinstance(entries, EvenEntries):
            return image
        cores = min(area.groups * self.chip.group_core_types.count(entries.core_type), sum(entries.tiles))
        return image if cores == entries.cores else replace(image, entries=replace(entries, cores=cores))

    def _first(self, area: _Area) -> dict[str, int]:
        """The first core of an area by core type."""
        group = self.chip.group_core_types
        return {core: area.first * group.count(core) for core in group}

    def _areas(self, stack: Stack, shapes: Shapes, area: _Area | None) -> Sequence[_Area | None]:
        """The cores of each member: all of the stack's, or shares of them by work.

        On a chip with cube and vector cores apart, kernels that only use one sort do not compete with those of the other.
        """
        if stack.kind == "sequence":
            return [area] * len(stack.members)
        whole = area or _Area(0, self.chip.core.count)
        work = self._work(stack, shapes)
        group = self.chip.group_core_types
        if len(group) == 1 or any(all(each.values()) for each in work):
            pools = [[sum(each.values()) if len(group) == 1 else max(each.values()) for each in work]]
        else:
            pools = [[each[unit] for each in work] for unit in _UNITS]
        areas = [_Area(whole.first, 1)] * len(work)
        for pool in pools:
            for number, share in self._shares(stack, pool, whole):
                areas[number] = share
        return areas

    def _shares(self, stack: Stack, work: Sequence[float], whole: _Area) -> Iterator[tuple[int, _Area]]:
        """Areas of the members that have work; those that there are no groups left for begin from the first."""
        busy = [number for number, each in enumerate(work) if each > 0]
        fixed = [self._pinned(stack.members[number].kernel) for number in busy]
        at = 0
        for number, share in zip(busy, apportion(whole.groups, [work[each] for each in busy], fixed), strict=True):
            share = min(share, whole.groups)
            at = 0 if at + share > whole.groups else at
            yield number, _Area(whole.first + at, share)
            at += share

    def _pinned(self, kernel: Kernel | Stack) -> int | None:
        """Core groups for the cores that a kernel pins."""
        if isinstance(kernel, Stack):
            return None
        pins = kernel.graph.pins
        cores = pins.cores or (None if pins.grid is None else prod(pins.grid))
        products = any(node.op in CUBE_OPS for node in kernel.graph.nodes)
        in_group = self.chip.cores_with("cube" if products else "vector") // self.chip.core.count
        return None if cores is None else -(-cores // in_group)

    def _work(self, stack: Stack, shapes: Shapes) -> list[dict[str, float]]:
        """Estimated work of each member by unit."""
        return [
            self._work_of(
                member.kernel, {each.name: shapes[member.outer(each.name)] for each in params_of(member.kernel)}
            )
            for member in stack.members
        ]

    def _work_of(self, kernel: Kernel | Stack, shapes: Shapes) -> dict[str, float]:
        if isinstance(kernel, Kernel):
            return estimate_work(kernel.graph, kernel.bind(shapes), self.chip, self.isa)
        known = {name: tuple(shape) for name, shape in shapes.items()}
        total = dict.fromkeys(_UNITS, 0.0)
        for member in kernel.members:
            taken = {each.name: known[member.outer(each.name)] for each in params_of(member.kernel)}
            for unit, cycles in self._work_of(member.kernel, taken).items():
                total[unit] += cycles
            known |= {member.outer(name): shape for name, shape in output_shapes(member.kernel, taken).items()}
        return total
