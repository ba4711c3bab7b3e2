"""Where the simulated time of a run went, by kernel, with the operators of the model that each computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from npuvm.compiler.launch_sources import launch_sources
from npuvm.compiler.model import DeviceStep
from npuvm.compiler.schedule import Pins
from npuvm.runtime.device import Device, DeviceProgram, LaunchRecord

__all__ = ["Executed", "KernelUse", "profile_json", "profile_of", "render_profile"]

_NAMED = 4
"""Most operators that a row of the table names."""


@dataclass(frozen=True, slots=True)
class Executed:
    """A region that ran: its launches are those of the device from number `first` on."""

    step: DeviceStep
    program: DeviceProgram
    first: int


@dataclass(slots=True)
class KernelUse:
    """A kernel over a run. `operators` are nodes of the model; cycles, time and bytes are simulated, of all its launches.

    `share` is that of the cycles of all launches of the run, `bound` what limits the longest of its launches.
    """

    kernel: str
    kind: str
    operators: tuple[str, ...]
    launches: int = 0
    cycles: int = 0
    us: float = 0.0
    l2_bytes: int = 0
    hbm_bytes: int = 0
    share: float = 0.0
    bound: str = ""


def profile_of(
    executed: Sequence[Executed], records: Sequence[LaunchRecord], device: Device, pins: Pins | None
) -> list[KernelUse]:
    """The kernels of a run, those that took longest first. `records` are its launches."""
    found: dict[tuple[str, str], KernelUse] = {}
    longest: dict[tuple[str, str], int] = {}
    for each in executed:
        launches = each.program.kernel.launches
        sources = launch_sources(each.step.graph, launches, device.chip, device.isa, pins)
        for launch, operators, record in zip(launches, sources, records[each.first :], strict=False):
            key = each.step.name, launch.segment
            use = found.setdefault(key, KernelUse(f"{each.step.name}.{launch.segment}", launch.kind, operators))
            result = record.result
            use.launches += 1
            use.cycles += result.cycles
            use.us += float(device.chip.cycles_to_us(result.cycles))
            use.l2_bytes += result.bytes.get("l2", 0)
            use.hbm_bytes += result.bytes.get("hbm_read", 0) + result.bytes.get("hbm_write", 0)
            if result.cycles >= longest.get(key, 0):
                longest[key], use.bound = result.cycles, result.bound[0]
    total = sum(use.cycles for use in found.values())
    for use in found.values():
        use.share = use.cycles / total if total else 0.0
    return sorted(found.values(), key=lambda use: -use.cycles)


def render_profile(uses: Sequence[KernelUse], most: int | None = None) -> Table:
    """A table of the kernels, of the first `most` where that is given."""
    shown = uses if most is None else uses[:most]
    left = f", {len(uses) - len(shown)} more not shown" if len(shown) < len(uses) else ""
    table = Table(title=f"kernels by simulated time{left}", title_justify="left")
    for name in ("kernel", "kind", "operators"):
        table.add_column(name, overflow="fold")
    for name in ("launches", "cycles", "us", "share", "L2 KB", "HBM KB"):
        table.add_column(name, justify="right")
    table.add_column("bound")
    for use in shown:
        more = f", {len(use.operators) - _NAMED} more" if len(use.operators) > _NAMED else ""
        operators = ", ".join(use.operators[:_NAMED]) + more
        numbers = (f"{use.launches}", f"{use.cycles}", f"{use.us:.2f}", f"{use.share:.1%}")
        moved = (f"{use.l2_bytes / 1000:.1f}", f"{use.hbm_bytes / 1000:.1f}")
        table.add_row(use.kernel, use.kind, operators or "(copy)", *numbers, *moved, use.bound)
    return table


def profile_json(uses: Sequence[KernelUse]) -> list[dict[str, Any]]:
    """The same for a file."""
    return [{name: getattr(use, name) for name in KernelUse.__slots__} for use in uses]
