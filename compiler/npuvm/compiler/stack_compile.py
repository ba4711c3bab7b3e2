"""Compiles a stack of kernels: shares of the cores, every kernel for its share, and all launches linked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import prod

from npuvm.compiler.builder import Kernel
from npuvm.compiler.errors import CompileError
from npuvm.compiler.program import CompiledKernel, TensorSpec, compile_kernel
from npuvm.compiler.stack_kernels import Stack, names_of, output_shapes, params_of
from npuvm.compiler.stack_launch import Placed, stack_launches
from npuvm.compiler.stack_work import apportion, estimate_work
from npuvm.hw.config import NpuConfig
from npuvm.isa import Isa

__all__ = ["compile_stack"]

Shapes = Mapping[str, Sequence[int]]

_UNITS = ("cube", "vector")


def compile_stack(stack: Stack, shapes: Shapes, chip: NpuConfig, isa: Isa) -> CompiledKernel:
    """The programs of a stack for the shapes of its parameters: one launch, more only where grids cannot be numbered.

    CompileError when the shapes do not fit the kernels, or one of them cannot be compiled.
    """
    for param in stack.params:
        if param.name not in shapes:
            raise CompileError(f"no shape for parameter '{param.name}'", stack.name)
    unknown = set(shapes) - {param.name for param in stack.params}
    if unknown:
        names = ", ".join(param.name for param in stack.params)
        raise CompileError(f"no parameter '{sorted(unknown)[0]}'; parameters: {names}", stack.name)
    build = _Build(chip, isa)
    sizes = {name: tuple(shape) for name, shape in shapes.items()}
    build.add(stack, sizes, {each: each for each in names_of(stack)}, "", None)
    kinds = {each.name: "param" for each in stack.params} | {each.name: "output" for each in stack.outputs}
    tensors = tuple(replace(each, kind=kinds.get(each.name, "workspace")) for each in build.tensors.values())
    order = {"param": 0, "output": 1, "workspace": 2}
    tensors = tuple(sorted(tensors, key=lambda each: order[each.kind]))
    whole = CompiledKernel(stack.name, (), tensors, tuple(each.name for each in stack.outputs), build.seconds)
    return stack_launches(whole, build.launches, chip, isa)


@dataclass(frozen=True, slots=True)
class _Area:
    """Cores of a chip that a kernel has for itself: by unit, the number of the first of its type, and how many."""

    first: Mapping[str, int]
    count: Mapping[str, int]


@dataclass
class _Build:
    """What is gathered of all kernels of a stack, under the names of the whole."""

    chip: NpuConfig
    isa: Isa
    launches: list[Placed] = field(default_factory=list)
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
            return self._kernel(kernel, shapes, names, path, area)
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
        if pins.stack is not None or area is not None:
            pins = replace(pins, stack=None, share={} if area is None else area.count)
        made = compile_kernel(kernel, shapes, self.chip, self.isa, pins)
        for phase, seconds in made.seconds.items():
            self.seconds[phase] = self.seconds.get(phase, 0.0) + seconds
        full = {each.name: names.get(each.name, f"{path}{each.name}") for each in made.tensors}
        for each in made.tensors:
            self.tensors.setdefault(full[each.name], replace(each, name=full[each.name]))
        for launch in made.launches:
            args, writes = (tuple(full[name] for name in listed) for listed in (launch.args, launch.writes))
            moved = replace(launch, segment=f"{path}{launch.segment}", args=args, writes=writes)
            self.launches.append(Placed(moved, None if area is None else self._first(area)))
        return {each.name: each.shape for each in made.tensors if each.kind == "output"}

    def _first(self, area: _Area) -> dict[str, int]:
        """The first core of an area by core type."""
        return {self.chip.core_type_with(unit): first for unit, first in area.first.items()}

    def _areas(self, stack: Stack, shapes: Shapes, area: _Area | None) -> Sequence[_Area | None]:
        """The cores of each member: all of the stack's, or shares of them by work."""
        if stack.kind == "sequence":
            return [area] * len(stack.members)
        whole = area or _Area(dict.fromkeys(_UNITS, 0), {unit: self.chip.cores_with(unit) for unit in _UNITS})
        work = self._work(stack, shapes)
        if self.chip.core.kind == "unified":
            both = [sum(each.values()) for each in work]
            shares = dict.fromkeys(_UNITS, self._shares(stack, both, whole, "vector"))
        else:
            shares = {unit: self._shares(stack, [each[unit] for each in work], whole, unit) for unit in _UNITS}
        return [
            _Area(
                {unit: each[number][0] for unit, each in shares.items()},
                {unit: each[number][1] for unit, each in shares.items()},
            )
            for number in range(len(stack.members))
        ]

    def _shares(self, stack: Stack, work: Sequence[float], whole: _Area, unit: str) -> list[tuple[int, int]]:
        """First core and number of cores for each member; those that there are no cores left for begin from the first."""
        first, count = whole.first[unit], whole.count[unit]
        busy = [number for number, each in enumerate(work) if each > 0]
        fixed = [_pinned(stack.members[number].kernel) for number in busy]
        shares = apportion(count, [work[number] for number in busy], fixed)
        result = [(first, 1)] * len(work)
        at = 0
        for number, share in zip(busy, shares, strict=True):
            share = min(share, count)
            at = 0 if at + share > count else at
            result[number] = first + at, share
            at += share
        return result

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


def _pinned(kernel: Kernel | Stack) -> int | None:
    if isinstance(kernel, Stack):
        return None
    pins = kernel.graph.pins
    return pins.cores or (None if pins.grid is None else prod(pins.grid))
