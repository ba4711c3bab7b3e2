"""A compiled stack opened up: every kernel of it as `inspect_kernel` shows one, where it stands, and the launches of all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from npuvm.compiler.emit.walk import Walk
from npuvm.compiler.inspection.kernel import Inspected, InspectedSegment, inspect_kernel
from npuvm.compiler.inspection.text import Phase, phase_texts
from npuvm.compiler.program.compiled import CompiledKernel, TensorSpec
from npuvm.compiler.stack.compile import StackPart, compile_stack, stack_parts
from npuvm.compiler.stack.kernels import Stack
from npuvm.hw.config import NpuConfig
from npuvm.isa import Image, Isa, disassemble

__all__ = ["InspectedPart", "InspectedStack", "inspect_stack", "stack_phase_texts"]


@dataclass(frozen=True)
class InspectedPart:
    """A kernel of a stack. The images of `found` are those that were linked, on the cores that they got."""

    part: StackPart
    found: Inspected


@dataclass(frozen=True)
class InspectedStack:
    """A stack for concrete shapes: its kernels in the order in which they are linked, and its launches."""

    stack: Stack
    parts: tuple[InspectedPart, ...]
    compiled: CompiledKernel

    @property
    def binding(self) -> Mapping[str, int]:
        """Sizes of the symbols of all kernels, which are named by where their kernels stand."""
        return {f"{each.part.path}{name}": size for each in self.parts for name, size in each.found.binding.items()}

    @property
    def segments(self) -> tuple[InspectedSegment, ...]:
        """Segments of all kernels, named by where these stand."""
        return tuple(replace(segment, place=each.part.path) for each in self.parts for segment in each.found.segments)


def inspect_stack(
    stack: Stack, shapes: Mapping[str, Sequence[int]], chip: NpuConfig, isa: Isa, buffering: str | None = None
) -> InspectedStack:
    """Compile a stack for the shapes of its parameters and keep every step. CompileError as from `compile_stack`."""
    compiled = compile_stack(stack, shapes, chip, isa, buffering)
    parts = []
    for part in stack_parts(stack, shapes, chip, isa, buffering):
        found = inspect_kernel(part.kernel, part.shapes, part.chip, isa, part.pins)
        images = {each.launch.segment: each.launch.image for each in part.launches}
        segments = tuple(_placed(each, images.get(f"{part.path}{each.name}")) for each in found.segments)
        parts.append(InspectedPart(part, replace(found, segments=segments)))
    return InspectedStack(stack, tuple(parts), compiled)


def _placed(segment: InspectedSegment, image: Image | None) -> InspectedSegment:
    """The segment with the image that was linked; other cores walk other tiles."""
    if image is None or image.entries == segment.image.entries:
        return segment
    walk = Walk(segment.kernel.walk.grids, tuple(entry.ranges for entry in image.entries))
    return replace(segment, kernel=replace(segment.kernel, image=image, walk=walk))


def stack_phase_texts(found: InspectedStack, chip: NpuConfig, isa: Isa) -> tuple[Phase, ...]:
    """All phases in order: the stack; for each kernel its own, named by where it stands; then the launches."""
    launches = tuple(
        Phase(f"{launch.segment}-assembly", disassemble(isa, launch.image)) for launch in found.compiled.launches
    )
    whole = {phase.name for phase in launches}
    phases = [Phase("stack", _stack_text(found, chip))]
    for each in found.parts:
        own = (
            Phase(f"{each.part.path}{phase.name}", phase.text) for phase in phase_texts(each.found, each.part.chip, isa)
        )
        phases += [phase for phase in own if phase.name not in whole]
    return (*phases, *launches)


def _stack_text(found: InspectedStack, chip: NpuConfig) -> str:
    lines = [f"chip {chip.name}", *_member_lines(found.stack, "", {each.part.path: each.part for each in found.parts})]
    lines += ["", *(_tensor_line(each) for each in found.compiled.tensors), ""]
    for launch in found.compiled.launches:
        cores = f"{len(launch.image.entries)} cores"
        lines.append(f"launch {launch.segment}: {launch.kind}, {cores}, arguments {', '.join(launch.args)}")
    return "\n".join(lines) + "\n"


def _member_lines(stack: Stack, path: str, parts: Mapping[str, StackPart]) -> list[str]:
    """The stack and what it holds, a step further in for each stack around it."""
    depth = "  " * path.count(".")
    lines = [f"{depth}{path.rstrip('.')}{' ' if path else ''}{stack.kind} {stack.name}"]
    for number, member in enumerate(stack.members):
        own = f"{path}k{number}."
        if isinstance(member.kernel, Stack):
            lines += _member_lines(member.kernel, own, parts)
        else:
            lines.append(f"{depth}  {own.rstrip('.')} {member.kernel.name}: {_part_text(parts[own])}")
    return lines


def _part_text(part: StackPart) -> str:
    tensors = ", ".join(f"{own} = {name}" if own != name else own for own, name in part.names.items())
    cores = []
    for each in part.launches:
        count = len(each.launch.image.entries)
        first = (
            ""
            if each.first is None
            else f" from {min(each.first[entry.core_type] for entry in each.launch.image.entries)}"
        )
        cores.append(f"{each.launch.segment.removeprefix(part.path)} on {count} cores{first}")
    return "; ".join([tensors, *cores])


def _tensor_line(tensor: TensorSpec) -> str:
    place = f", from byte {tensor.offset}" if tensor.kind == "workspace" else ""
    return (
        f"{tensor.kind} {tensor.name} {tensor.dtype}[{', '.join(map(str, tensor.shape))}], {tensor.nbytes} bytes{place}"
    )
