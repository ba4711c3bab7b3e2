"""Where the simulated time of a run went: by kernel, by programs in kernels, by operator of the model; and what crossed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from npuvm.compiler.graph.model import DeviceStep
from npuvm.compiler.language.pins import Pins
from npuvm.compiler.plan.launch_sources import LaunchedProgram, launch_programs
from npuvm.hw.config import NpuConfig
from npuvm.hw.link import Direction, HostLink
from npuvm.hw.results.stats import RunResult
from npuvm.runtime.device.device import Device, DeviceProgram, LaunchRecord
from npuvm.runtime.device.run_timeline import RunCalls
from npuvm.runtime.session.attribution import Attributed, attribute
from npuvm.runtime.session.operators import owner_of

__all__ = [
    "Executed",
    "KernelUse",
    "NodeUse",
    "ProgramUse",
    "TransferUse",
    "nodes_of",
    "profile_json",
    "profile_of",
    "transfers_of",
]


@dataclass(frozen=True, slots=True)
class Executed:
    """A region that ran: its launches are those of the device from number `first` on."""

    step: DeviceStep
    program: DeviceProgram
    first: int


@dataclass(slots=True)
class ProgramUse:
    """A program in a kernel over a run.

    `cycles` is its part of the kernel's, and `nodes` are the parts of its operators in it (`attribute`). `busy` are cycles of
    units over all cores, `moved_bytes` what its instructions moved to or from global memory, L2 or not.
    """

    program: str
    kind: str
    operators: tuple[str, ...]
    cycles: float = 0.0
    us: float = 0.0
    moved_bytes: int = 0
    busy: dict[str, float] = field(default_factory=dict)
    nodes: dict[str, float] = field(default_factory=dict)


@dataclass(slots=True)
class KernelUse:
    """A kernel over a run. `operators` are nodes of the model; cycles, time and bytes are simulated, of all its launches.

    `types` are the types of the operators, where the model tells them. `share` is that of the cycles of all launches of the
    run, `bound` what limits the longest of its launches, `busy` the share of its cycles in which each unit was at work, on the
    average of the cores that have it.
    """

    kernel: str
    kind: str
    operators: tuple[str, ...]
    types: tuple[str, ...] = ()
    launches: int = 0
    cycles: int = 0
    us: float = 0.0
    l2_bytes: int = 0
    hbm_bytes: int = 0
    share: float = 0.0
    bound: str = ""
    busy: dict[str, float] = field(default_factory=dict)
    programs: list[ProgramUse] = field(default_factory=list)


@dataclass(slots=True)
class NodeUse:
    """An operator of the model over a run: its part of the cycles of all kernels that compute it, which `kernels` counts.

    `alone` are those of these cycles that are of programs which compute nothing else; the others are attributed (`attribute`).
    """

    node: str
    type: str
    cycles: float = 0.0
    us: float = 0.0
    share: float = 0.0
    kernels: int = 0
    alone: float = 0.0


@dataclass(frozen=True, slots=True)
class TransferUse:
    """A value that crossed between host and device over a run, all its transfers in one direction.

    `us` is simulated, each transfer as if it were alone; `constant`: it stays on the device for later runs.
    """

    value: str
    direction: Direction
    constant: bool
    transfers: int
    nbytes: int
    us: float


def profile_of(
    executed: Sequence[Executed],
    records: Sequence[LaunchRecord],
    device: Device,
    pins: Pins | None,
    types: Mapping[str, str],
) -> list[KernelUse]:
    """The kernels of a run, those that took longest first. `records` are its launches, `types` those of operators by name."""
    found: dict[tuple[int, str], KernelUse] = {}
    longest: dict[tuple[int, str], int] = {}
    known: dict[int, _Programs] = {}
    for each in executed:
        kernel = each.program.kernel
        if id(kernel) not in known:
            known[id(kernel)] = _programs_of(each, device, pins)
        programs, binding = known[id(kernel)]
        for launch, inside, record in zip(kernel.launches, programs, records[each.first :], strict=False):
            key = id(each.step), launch.segment
            operators = tuple(dict.fromkeys(name for one in inside for name in one.sources))
            use = found.get(key)
            if use is None:
                title = f"{each.step.name}.{launch.segment}"
                own = tuple(dict.fromkeys(filter(None, (types.get(owner_of(name, types), "") for name in operators))))
                use = found[key] = KernelUse(title, launch.kind, operators, own)
            _count(use, record.result, attribute(record.result, inside, binding, device), device.chip)
            if record.result.cycles >= longest.get(key, 0):
                longest[key], use.bound = record.result.cycles, record.result.bound[0]
    total = sum(use.cycles for use in found.values())
    for use in found.values():
        use.share = use.cycles / total if total else 0.0
        use.busy = {unit: cycles / use.cycles if use.cycles else 0.0 for unit, cycles in use.busy.items()}
    return sorted(found.values(), key=lambda use: -use.cycles)


_Programs = tuple[list[tuple[LaunchedProgram, ...]], Mapping[str, int]]
"""The programs of each launch of a kernel, and the values of its symbols."""


def _programs_of(executed: Executed, device: Device, pins: Pins | None) -> _Programs:
    graph, kernel = executed.step.graph, executed.program.kernel
    shapes = {spec.name: spec.shape for spec in kernel.tensors if spec.kind == "param"}
    return launch_programs(graph, kernel.launches, shapes, device.chip, device.isa, pins), graph.bind(shapes)


def _count(use: KernelUse, result: RunResult, parts: Sequence[Attributed], chip: NpuConfig) -> None:
    use.launches += 1
    use.cycles += result.cycles
    use.us += float(chip.cycles_to_us(result.cycles))
    use.l2_bytes += result.bytes.get("l2", 0)
    use.hbm_bytes += result.bytes.get("hbm_read", 0) + result.bytes.get("hbm_write", 0)
    for unit in dict.fromkeys(word.unit for word in result.by_word.values()):
        _add(use.busy, unit, result.busy_share(unit) * result.cycles)
    known = {each.program: each for each in use.programs}
    for each in parts:
        own = known.get(each.program.name)
        if own is None:
            own = known[each.program.name] = ProgramUse(each.program.name, each.program.kind, each.program.sources)
            use.programs.append(own)
        own.cycles += each.cycles
        own.moved_bytes += each.nbytes
        own.us += each.cycles / float(chip.clock_ghz) / 1000
        for unit, cycles in each.busy.items():
            _add(own.busy, unit, cycles)
        for name, cycles in each.operators.items():
            _add(own.nodes, name, cycles)


def _add(counts: dict[str, float], name: str, more: float) -> None:
    counts[name] = counts.get(name, 0.0) + more


def nodes_of(uses: Sequence[KernelUse], types: Mapping[str, str]) -> list[NodeUse]:
    """The same by operator of the model, those with most cycles first; together they have the cycles of all kernels."""
    found: dict[str, NodeUse] = {}
    seen: set[tuple[str, int]] = set()
    for at, kernel in enumerate(uses):
        for program in kernel.programs:
            per_cycle = program.us / program.cycles if program.cycles else 0.0
            owners = {name: owner_of(name, types) for name in program.nodes}
            for name, cycles in program.nodes.items():
                owner = owners[name]
                use = found.setdefault(owner, NodeUse(owner, types.get(owner, "")))
                use.cycles += cycles
                use.us += cycles * per_cycle
                use.alone += cycles if len(set(owners.values())) == 1 else 0.0
                use.kernels += (owner, at) not in seen
                seen.add((owner, at))
    total = sum(use.cycles for use in found.values())
    for use in found.values():
        use.share = use.cycles / total if total else 0.0
    return sorted(found.values(), key=lambda use: -use.cycles)


def transfers_of(calls: RunCalls) -> list[TransferUse]:
    """The values that crossed in a run, those that took longest first."""
    found: dict[tuple[str, Direction, bool], list[int]] = {}
    for each in calls.operations:
        if each.kind == "to_device" or each.kind == "to_host":
            found.setdefault((each.tag, each.kind, each.resident), []).append(each.nbytes)
    link = HostLink.of(calls.chip)
    uses = []
    for (value, direction, constant), sizes in found.items():
        us = float(sum(link.transfer_us(direction, nbytes) for nbytes in sizes))
        uses.append(TransferUse(value, direction, constant, len(sizes), sum(sizes), us))
    return sorted(uses, key=lambda use: -use.us)


def profile_json(uses: Sequence[KernelUse] | Sequence[NodeUse] | Sequence[TransferUse]) -> list[dict[str, Any]]:
    """Kernels with their programs, operators, or transfers, for a file."""
    return [asdict(use) for use in uses]
