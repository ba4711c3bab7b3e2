"""The plan of a stage for one set of sizes: programs of its regions, and where in an arena every tensor lies."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field

from npuvm.compiler import Kernel
from npuvm.compiler.graph.model import SIZES, DeviceStep, HostStep, Model, SizesStep
from npuvm.compiler.graph.symbols import evaluate
from npuvm.compiler.graph.types import DTYPES
from npuvm.compiler.stack.order import Lifetime, place_workspace
from npuvm.runtime.device.device import Device, DeviceProgram
from npuvm.runtime.device.tensor import Tensor
from npuvm.runtime.session.carrying import carrier_of
from npuvm.runtime.session.prepared import Stage, outputs_of

__all__ = ["Place", "StagePlan", "plan_stage"]


@dataclass(frozen=True, slots=True)
class Place:
    """A tensor of an arena: its first byte, its shape, and its dtype on the device."""

    offset: int
    shape: tuple[int, ...]
    dtype: str


@dataclass(slots=True)
class StagePlan:
    """Programs and places of tensors by the number of the step, and places of values by name; `nbytes` is the arena's size.

    `apart_bytes` is what the same tensors take when none shares bytes with another.
    """

    programs: dict[int, DeviceProgram]
    places: dict[str, Place]
    own: dict[int, dict[str, Place]]
    nbytes: int
    apart_bytes: int
    _bound: tuple[Tensor, dict[str, Tensor], dict[int, dict[str, Tensor]]] | None = field(default=None, repr=False)

    def tensors(self, device: Device, memory: Tensor) -> tuple[dict[str, Tensor], dict[int, dict[str, Tensor]]]:
        """The tensors of an arena: of values by name, and those of each step by their names in its program."""
        if self._bound is None or self._bound[0] is not memory:

            def part(place: Place) -> Tensor:
                return device.part(memory, place.offset, place.shape, place.dtype)

            values = {name: part(place) for name, place in self.places.items()}
            own = {at: {name: part(place) for name, place in each.items()} for at, each in self.own.items()}
            self._bound = memory, values, own
        return self._bound[1], self._bound[2]


class _Layout:
    """Sizes and lifetimes of tensors while steps are gone through in order; a level is a launch or a step of the host."""

    def __init__(self) -> None:
        self.level = 0
        self.kinds: dict[str, tuple[tuple[int, ...], str]] = {}
        self._first: dict[str, int] = {}
        self._last: dict[str, int] = {}

    def use(self, key: str, level: int) -> None:
        self._first[key] = min(self._first.get(key, level), level)
        self._last[key] = max(self._last.get(key, level), level)

    def used(self, key: str) -> bool:
        return key in self._first

    def place(self, lasting: Collection[str]) -> tuple[dict[str, Place], int, int]:
        sizes = {key: _nbytes(shape, dtype) for key, (shape, dtype) in self.kinds.items()}
        lifetimes = {
            key: Lifetime(self._first[key], self.level if key in lasting else self._last[key]) for key in sizes
        }
        offsets = place_workspace(sizes, lifetimes)
        places = {key: Place(offsets[key], *self.kinds[key]) for key in sizes}
        return places, max((offsets[key] + size for key, size in sizes.items()), default=0), sum(sizes.values())


def _nbytes(shape: tuple[int, ...], dtype: str) -> int:
    count = DTYPES[dtype].item_bytes
    for size in shape:
        count *= size
    return count


Compile = Callable[[Kernel, Mapping[str, tuple[int, ...]]], DeviceProgram]
"""What gives the program of a kernel for the shapes of its parameters."""


def plan_stage(
    compiled: Compile,
    model: Model,
    stage: Stage,
    kernels: Mapping[int, Kernel],
    binding: Mapping[str, int],
    resident: Collection[str],
) -> StagePlan:
    """Compile the regions of a stage and lay out its memory. `resident` are values that are on the device already.

    CompileError and VerifyError where a region cannot be compiled for the sizes.
    """
    layout = _Layout()
    programs: dict[int, DeviceProgram] = {}
    lasting = {_key(name) for name in stage.lasting}
    for at, step in enumerate(stage.steps):
        if isinstance(step, DeviceStep):
            programs[at] = compiled(kernels[at], _shapes(model, step, binding))
            _add_region(layout, at, step, programs[at], model, binding, resident)
            continue
        for name in stage.reads[at]:
            if _key(name) in layout.kinds:
                layout.use(_key(name), layout.level)
                if not isinstance(step, HostStep | SizesStep):
                    # A body may hand on what it was given, so that it lives on under another name.
                    lasting.add(_key(name))
        layout.level += 1
    places, nbytes, apart = layout.place(lasting)
    own: dict[int, dict[str, Place]] = {at: {} for at in programs}
    values: dict[str, Place] = {}
    for key, place in places.items():
        owner, name = key.split(":", 1)
        if owner:
            own[int(owner)][name] = place
        else:
            values[name] = place
    return StagePlan(programs, values, own, nbytes, apart)


def _key(name: str) -> str:
    return f":{name}"


def _shapes(model: Model, step: DeviceStep, binding: Mapping[str, int]) -> dict[str, tuple[int, ...]]:
    shapes = {}
    for param in step.graph.params:
        dims = param.type.shape if param.name == SIZES else model.values[step.inputs[param.name]].shape
        shapes[param.name] = evaluate(dims or (), binding)
    return shapes


def _add_region(
    layout: _Layout,
    at: int,
    step: DeviceStep,
    program: DeviceProgram,
    model: Model,
    binding: Mapping[str, int],
    resident: Collection[str],
) -> None:
    """The tensors of a region, each from the first launch that has it to the last."""
    keys: dict[str, str] = {}
    for inner, name in step.inputs.items():
        if name in model.constants or name in resident:
            continue
        keys[inner] = _key(name)
    for inner, name in step.outputs.items():
        keys[inner] = _key(name)
    for spec in program.kernel.tensors:
        if spec.kind == "workspace":
            keys[spec.name] = f"{at}:{spec.name}"
            layout.kinds[keys[spec.name]] = (spec.shape, spec.dtype)
    for name in (*step.inputs.values(), *outputs_of(step)):
        if _key(name) in keys.values() and _key(name) not in layout.kinds:
            kind = model.values[name]
            layout.kinds[_key(name)] = (evaluate(kind.shape or (), binding), carrier_of(kind.dtype, name))
    first = layout.level
    for inner in step.inputs:
        if inner in keys:
            layout.use(keys[inner], first)
    for level, launch in enumerate(program.kernel.launches, start=first):
        for name in launch.args:
            if name in keys:
                layout.use(keys[name], level)
    layout.level = first + max(len(program.kernel.launches), 1)
    for key in keys.values():
        # What no launch has: it has no elements, or nobody reads it.
        if key in layout.kinds and not layout.used(key):
            layout.use(key, first)
