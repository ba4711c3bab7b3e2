"""What `npuvm compile` prints: a summary; with a simulation also tiles, buffers, reuse, events, estimates against cycles."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal, NamedTuple, TypeAlias

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from npuvm.compiler import Kernel, Pins, Stack
from npuvm.compiler.inspection.buffers import BufferUse
from npuvm.compiler.inspection.kernel import Inspected, InspectedSegment
from npuvm.compiler.inspection.stack import InspectedStack
from npuvm.hw.config import NpuConfig
from npuvm.hw.functional.indices import IndexDistribution
from npuvm.runtime.device.device import Device
from npuvm.runtime.tables import launches_text, plain_table

__all__ = ["Found", "IndexKind", "LaunchRow", "launch_rows", "render_compiled", "render_launches", "to_json"]


IndexKind: TypeAlias = Literal["uniform", "sequential"]
Found: TypeAlias = Inspected | InspectedStack


class LaunchRow(NamedTuple):
    """A launch as it was simulated: cycles, the highest lower bound of them and its name, cores launched."""

    name: str
    cycles: int
    bound: str
    bound_cycles: float
    cores: int


def launch_rows(
    kernel: Kernel | Stack,
    found: Found,
    chip: NpuConfig,
    cold_l2: bool,
    indices: IndexKind | None = None,
    pins: Pins | None = None,
) -> list[LaunchRow]:
    """Simulate the launches of a kernel, time only, one after the other on a fresh device; `pins` are those it was found with.

    `indices` says what index vectors are like; without it a kernel that has some is a SimulationError.
    """
    distribution = None if indices is None else IndexDistribution(indices)
    device = Device(chip, timing_only=True, cold_l2=cold_l2, indices=distribution)
    params = [each for each in found.compiled.tensors if each.kind == "param"]
    device.run(kernel, {each.name: device.empty(each.shape, each.dtype) for each in params}, pins)
    rows = []
    for launch, record in zip(found.compiled.launches, device.launches, strict=True):
        name, cycles = record.result.bound
        rows.append(LaunchRow(launch.segment, record.result.cycles, name, float(cycles), len(launch.image.entries)))
    return rows


def render_compiled(found: Found, chip: NpuConfig, ktype: str, note: str) -> RenderableType:
    """Tensors and launches of a compiled kernel of a kind, and what is to be noted about all of them."""
    compiled = found.compiled
    title = Text(f"{compiled.name} on {chip.name}", style="bold")
    sizes = ", ".join(f"{name} = {size}" for name, size in found.binding.items()) or "no symbols"
    title.append(f"  {sizes}; ktype {ktype}, {launches_text(len(compiled.launches))}", style="not bold")
    tensors = plain_table([("tensor", False), ("kind", False), ("type", False), ("bytes", True)])
    for each in compiled.tensors:
        dims = ", ".join(map(str, each.shape))
        tensors.add_row(each.name, each.kind, Text(f"{each.dtype}[{dims}]"), f"{each.nbytes:,}")
    columns = [("tile", False), ("estimated\ncycles", True), ("cores", True), ("words", True), ("image\nbytes", True)]
    launches = plain_table([("launch", False), ("kind", False), *columns, ("arguments", False)])
    own = {each.name: each for each in found.segments}
    for launch in compiled.launches:
        inner = own.get(launch.segment)
        tile, cycles = (inner.tile, f"{inner.cycles:,.0f}") if inner else ("of its segments", "")
        numbers = f"{len(launch.image.entries)}", f"{len(launch.image.words):,}", f"{len(launch.image.to_bytes()):,}"
        launches.add_row(launch.segment, launch.kind, tile, cycles, *numbers, ", ".join(launch.args))
    return Group(title, tensors, launches, *([Text(note)] if note else []))


def render_launches(found: Found, chip: NpuConfig, rows: Sequence[LaunchRow]) -> RenderableType:
    """Every launch with its estimate against its cycles, and its segments with their buffers, reuse and events."""
    parts: list[RenderableType] = [_cycles_table(found, rows)]
    for segment in found.segments:
        used = ", ".join(
            f"{space} {nbytes:,} of {chip.capacity_bytes(space):,} bytes ({nbytes / chip.capacity_bytes(space):.1%})"
            for space, nbytes in segment.space_bytes().items()
        )
        head = Text(segment.name, style="bold")
        tried = f"{len(segment.candidates)} tried" if len(segment.candidates) > 1 else "the only one"
        head.append(f"  tile {segment.tile}, {tried}; {used}", style="not bold")
        parts += [head, _buffers_table(segment.buffers)]
        lines = [*_reuse_lines(segment), *_tile_lines(segment)]
        parts += [Text(f"  {line}") for line in lines]
        parts.append(Text())
    return Group(*parts)


def _cycles_table(found: Found, rows: Sequence[LaunchRow]) -> Table:
    estimates = {row.name: sum(each.cycles for each in _within(found, row.name)) for row in rows}
    table = plain_table(
        [
            ("launch", False),
            ("cycles\nestimated", True),
            ("simulated", True),
            ("estimate to\nsimulated", True),
            ("highest\nbound", True),
            ("by", False),
            ("bound to\nsimulated", True),
        ]
    )
    for row in rows:
        estimate = estimates[row.name]
        guess = ("", "") if not estimate else (f"{estimate:,.0f}", f"{estimate / row.cycles:.2f}")
        reached = f"{row.bound_cycles / row.cycles:.1%}"
        table.add_row(row.name, guess[0], f"{row.cycles:,}", guess[1], f"{row.bound_cycles:,.0f}", row.bound, reached)
    return table


def _within(found: Found, launch: str) -> list[InspectedSegment]:
    """The segments of a launch: one, or those that copy operands for it, and share its k or its reduce."""
    return [each for each in found.segments if each.name == launch or each.name.startswith(f"{launch}.")]


def _buffers_table(buffers: Sequence[BufferUse]) -> Table:
    table = plain_table(
        [
            ("buffer", False),
            ("space", False),
            ("slots", True),
            ("slot\nbytes", True),
            ("of its\nvalues", True),
            ("all\nbytes", True),
            ("values, in turn", False),
            ("ready", False),
            ("free", False),
            ("waits, sets", False),
        ]
    )
    for each in buffers:
        events: tuple[str, ...] = ("", "", "")
        if each.events is not None:
            ring = each.events
            ready = f"m{ring.ready} by {', '.join(ring.producers)}"
            free = f"m{ring.free} by {', '.join(ring.consumers)}"
            events = (ready, free, f"{ring.waits}, {ring.sets}")
        numbers = f"{each.slots}", f"{each.slot_bytes:,}", f"{each.used_bytes:,}", f"{each.nbytes:,}"
        table.add_row(each.name, each.space, *numbers, Text(" ".join(each.values)), *events)
    return table


def _reuse_lines(segment: InspectedSegment) -> list[str]:
    """What sharing saves: a buffer of its own for each value but the first of a slot."""
    saved = sum(each.slot_bytes * (len(each.values) - 1) for each in segment.buffers)
    shared = [f"{each.name} holds {len(each.values)} values" for each in segment.buffers if len(each.values) > 1]
    return [f"reuse: {', '.join(shared)}; {saved:,} bytes saved"] if shared else []


def _tile_lines(segment: InspectedSegment) -> list[str]:
    """Of a product: its parts of k, how its tiles lie on the result and on the cores, and how their costs are known."""
    lines = [segment.split, "" if segment.tiling is None else segment.tiling.text]
    lines.append(f"costs of tiles: {segment.known_by}" if segment.known_by else "")
    return [line for line in lines if line]


def to_json(found: Found, chip: NpuConfig, rows: Sequence[LaunchRow] | None, ktype: str, note: str) -> dict[str, Any]:
    """The same for machines; without a simulation no launch has cycles."""
    simulated = {row.name: row for row in rows or ()}
    return {
        "kernel": found.compiled.name,
        "ktype": ktype,
        "chip": chip.name,
        "sizes": dict(found.binding),
        "tensors": [
            {"name": each.name, "kind": each.kind, "dtype": each.dtype, "shape": list(each.shape)}
            for each in found.compiled.tensors
        ],
        "launches": [
            {
                "name": each.segment,
                "kind": each.kind,
                "arguments": list(each.args),
                "words": len(each.image.words),
                "image_bytes": len(each.image.to_bytes()),
                "cores": len(each.image.entries),
                **_simulated_json(simulated.get(each.segment)),
            }
            for each in found.compiled.launches
        ],
        "segments": [_segment_json(each, chip) for each in found.segments],
        "note": note,
    }


def _simulated_json(row: LaunchRow | None) -> dict[str, Any]:
    return {} if row is None else {"cycles": row.cycles, "bound": row.bound, "bound_cycles": row.bound_cycles}


def _segment_json(segment: InspectedSegment, chip: NpuConfig) -> dict[str, Any]:
    return {
        "name": segment.name,
        "tile": segment.tile,
        "cycles_estimated": segment.cycles,
        "candidates": len(segment.candidates),
        "costs": segment.known_by,
        "tiling": None if segment.tiling is None else asdict(segment.tiling),
        "split": segment.split,
        "bytes": {
            space: {"used": used, "capacity": chip.capacity_bytes(space)}
            for space, used in segment.space_bytes().items()
        },
        "buffers": [
            {
                "name": each.name,
                "space": each.space,
                "slots": each.slots,
                "slot_bytes": each.slot_bytes,
                "value_bytes": each.used_bytes,
                "values": list(each.values),
                "ready": None if each.events is None else each.events.ready,
                "free": None if each.events is None else each.events.free,
            }
            for each in segment.buffers
        ],
    }
