"""Chips on which one thing is free: the same chip with some of its numbers at a value that no chip can have."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from pydantic import BaseModel

from npuvm.hw.config import NpuConfig
from npuvm.hw.errors import ConfigError

__all__ = ["VARIANTS", "Variant", "variant", "with_fields"]

_FAST = 1 << 16
"""Bytes per cycle that never limit: a port moves any tile in a cycle or two."""

_MANY = 1 << 12
"""Requests in flight, or instructions in a queue, that never run out."""

Changes = dict[str, Any]


@dataclass(frozen=True)
class Variant:
    """A question: its name on the command line, what becomes free, and the fields of the chip that change."""

    name: str
    title: str
    changes: Callable[[NpuConfig], Changes]

    def chip(self, chip: NpuConfig) -> NpuConfig:
        """The chip with this for free; of the same hash when it has nothing of the kind."""
        return with_fields(chip, self.changes(chip))


def with_fields(chip: NpuConfig, changes: Mapping[str, Any]) -> NpuConfig:
    """A copy of a chip with other values at field paths ("core.sync.group_cycles"), which the schema need not allow."""
    tree: dict[str, Any] = {}
    for path, value in changes.items():
        *sections, name = path.split(".")
        branch = tree
        for section in sections:
            branch = branch.setdefault(section, {})
        branch[name] = value
    changed = _rebuilt(chip, tree)
    assert isinstance(changed, NpuConfig)
    return changed


def _rebuilt(section: BaseModel, changes: Mapping[str, Any]) -> BaseModel:
    """A section with changes laid over it. It is built anew: a copy would keep what was computed from the old fields."""
    fields = {name: getattr(section, name) for name in type(section).model_fields}
    for name, value in changes.items():
        if name not in fields:
            raise KeyError(f"{type(section).__name__} has no field {name!r}")
        nested = isinstance(fields[name], BaseModel) and isinstance(value, dict)
        fields[name] = _rebuilt(fields[name], value) if nested else value
    return type(section).model_construct(**fields)


def _fast_hbm(chip: NpuConfig) -> Changes:
    fast = _FAST * chip.clock_ghz * chip.memory.hbm.channels
    return {
        "memory.hbm.bandwidth_gbps": max(fast, chip.memory.hbm.bandwidth_gbps),
        "memory.hbm.row_miss_cycles": 0,
        "memory.hbm.turnaround_cycles": 0,
        "memory.hbm.same_line_cycles": 0,
    }


def _fast_l2(chip: NpuConfig) -> Changes:
    fast = _FAST * chip.clock_ghz * chip.memory.l2.slices
    return {"memory.l2.bandwidth_gbps": max(fast, chip.memory.l2.bandwidth_gbps), "memory.l2.same_line_cycles": 0}


def _fast_ports(chip: NpuConfig) -> Changes:
    changes: Changes = {f"core.load.{path}_bytes_per_cycle": _FAST for path in ("ub", "l1")}
    changes["core.store.bytes_per_cycle"] = _FAST
    if chip.core.fixpipe.gm_bytes_per_cycle:
        changes["core.fixpipe.gm_bytes_per_cycle"] = _FAST
    return changes


def _free_issue(_: NpuConfig) -> Changes:
    none = Fraction(0)
    return {
        "core.load.startup_cycles": 0,
        "core.load.row_cycles": none,
        "core.load.l1_startup_cycles": 0,
        "core.load.l1_row_cycles": none,
        "core.store.startup_cycles": 0,
        "core.store.row_cycles": none,
    }


def _free_vector(chip: NpuConfig) -> Changes:
    cost = {"startup_cycles": 0, "cycles_per_repeat": Fraction(0), "row_cycles": Fraction(0), "latency_cycles": 0}
    free = {name: _rebuilt(each, cost) for name, each in chip.core.vector.classes.items()}
    return {"core.vector.classes": free, "core.ub_banks": None}


def _free_cube(chip: NpuConfig) -> Changes:
    return {
        "core.cube.startup_cycles": 0,
        "core.cube.latency_cycles": 0,
        "core.cube.cycles_per_block": dict.fromkeys(chip.core.cube.cycles_per_block, 0),
    }


def _free_move(chip: NpuConfig) -> Changes:
    fixpipe = {
        f"core.fixpipe.{path}_bytes_per_cycle": _FAST
        for path in ("ub", "l1")
        if getattr(chip.core.fixpipe, f"{path}_bytes_per_cycle")
    }
    rates = {f"core.move.{target}_bytes_per_cycle": _FAST for target in ("l0a", "l0b", "l0c")}
    costs = {f"core.{unit}.{part}_cycles": 0 for unit in ("move", "fixpipe") for part in ("startup", "latency")}
    return {**rates, **fixpipe, **costs, "core.move.row_cycles": 0}


def _free_sync(_: NpuConfig) -> Changes:
    """A signal takes the one cycle that causality asks for."""
    return {
        "core.sync.set_to_visible_cycles": 1,
        "core.sync.group_cycles": 0,
        "core.sync.launch_cycles": 0,
        "core.sequencer.barrier_cycles": 0,
        "core.sequencer.scalar_load_cycles": 0,
    }


def _free_decode(_: NpuConfig) -> Changes:
    parts = ("decode_cycles_per_word", "dispatch_cycles", "loop_cycles", "scalar_cycles")
    return {f"core.sequencer.{part}": 0 for part in parts}


def _zero_launch(_: NpuConfig) -> Changes:
    none = Fraction(0)
    return {"host.launch_us": none, "host.start_latency_us": none, "core.sequencer.start_cycles": 0}


VARIANTS: tuple[Variant, ...] = (
    Variant(
        "infinite-bandwidth",
        "HBM, L2 and the ports of the DMA engines never limit",
        lambda chip: {**_fast_hbm(chip), **_fast_l2(chip), **_fast_ports(chip)},
    ),
    Variant("infinite-hbm", "HBM never limits: no rate, no row misses, no turnaround", _fast_hbm),
    Variant("infinite-l2", "L2 never limits: no rate, no wait for a line of another core", _fast_l2),
    Variant("infinite-ports", "the ports of the DMA engines never limit", _fast_ports),
    Variant(
        "zero-latency",
        "no latency of L2 and HBM",
        lambda _: {"memory.l2.latency_cycles": 0, "memory.hbm.latency_cycles": 0},
    ),
    Variant(
        "unlimited-requests",
        "a DMA engine never waits for a place in flight",
        lambda _: {"core.load.outstanding": _MANY, "core.store.outstanding": _MANY},
    ),
    Variant("free-issue", "a DMA instruction and its rows cost no issue cycles", _free_issue),
    Variant("no-bank-conflicts", "operands in UB never conflict", lambda _: {"core.ub_banks": None}),
    Variant("free-vector", "vector instructions take one cycle", _free_vector),
    Variant("free-cube", "cube instructions take one cycle", _free_cube),
    Variant("free-move", "nothing on the chip takes time to move", _free_move),
    Variant("free-sync", "signals take one cycle; barriers and scalar loads cost nothing themselves", _free_sync),
    Variant("free-decode", "decoding, loops and dispatch take no time", _free_decode),
    Variant("deep-queues", "the queues of the units are never full", lambda _: {"core.sequencer.queue_depth": _MANY}),
    Variant("zero-launch", "a launch costs neither host nor cores anything", _zero_launch),
)
"""Every question, in the order of the table."""


def variant(name: str) -> Variant:
    """The variant of a name, or of several joined by "+", all at once; ConfigError when there is none of a name."""
    parts = [_named(part) for part in name.split("+")]
    if len(parts) == 1:
        return parts[0]

    def changes(chip: NpuConfig) -> Changes:
        return {path: value for part in parts for path, value in part.changes(chip).items()}

    return Variant(name, "; ".join(part.title for part in parts), changes)


def _named(name: str) -> Variant:
    for each in VARIANTS:
        if each.name == name:
            return each
    raise ConfigError(f"no variant {name!r}; there are: {', '.join(each.name for each in VARIANTS)}")
