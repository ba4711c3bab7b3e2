"""Every cycle of a core under one cause, by following its critical unit (docs/reference/explain.md)."""

from __future__ import annotations

from collections.abc import Mapping

from npuvm.hw.explain.causes import SEQUENCER, Cause, add_up, split_stats
from npuvm.hw.results.stats import CoreStats, RunResult

__all__ = ["core_stack", "critical_unit", "launch_stack", "occupied"]

_WORKING = ("busy", "bank", "memory")
_BETWEEN = ("busy", "bank", "memory", "wait", "order", "queue", "decode", "sync")
"""What a unit does between the start of its first instruction and the end of its last one."""

Parts = Mapping[Cause, int]


def occupied(parts: Parts) -> int:
    """Cycles in which a unit has an instruction in work: busy, in bank conflicts, or stalled by memory."""
    return sum(cycles for cause, cycles in parts.items() if cause.kind in _WORKING)


def critical_unit(core: CoreStats) -> str:
    """The unit of a core that is occupied longest, the first of several; the sequencer when no unit has an instruction."""
    worked = {name: occupied(split_stats(name, stats)) for name, stats in core.units.items() if name != SEQUENCER}
    unit = max(worked, key=lambda name: worked[name], default=SEQUENCER)
    return unit if worked.get(unit) else SEQUENCER


def launch_stack(result: RunResult) -> dict[Cause, int]:
    """The cycles of all cores of a launch by cause, most first; they add up to cycles x cores."""
    everywhere = _mixes(result)
    total: dict[Cause, int] = {}
    for core in result.cores:
        add_up(total, core_stack(core, everywhere).items())
    return dict(sorted(total.items(), key=lambda item: (-item[1], item[0])))


def core_stack(core: CoreStats, everywhere: Mapping[str, Parts]) -> dict[Cause, int]:
    """The cycles of one core by cause. `everywhere` is what each unit does summed over all cores of the launch.

    The critical unit's own causes stand as they are, except that its startup begins with that of the core, and that what it
    waits for another unit is divided in proportion to what that unit does.
    """
    unit = critical_unit(core)
    own = split_stats(unit, core.units[unit])
    total: dict[Cause, int] = {}
    for cause, cycles in own.items():
        if cause.kind == "startup":
            start = min(cycles, core.units[SEQUENCER].stalls.get("start", 0))
            add_up(total, [(Cause(SEQUENCER, "start"), start), (cause, cycles - start)])
        elif cause.kind == "wait":
            producer = core.units.get(cause.other)
            here = producer is not None and producer.instructions > 0
            mix = split_stats(cause.other, core.units[cause.other]) if here else everywhere.get(cause.other, {})
            add_up(total, _resolve(cause, cycles, mix, occupied(own)))
        elif cause.kind == "imbalance":
            add_up(total, [(Cause("", "imbalance"), cycles)])
        else:
            add_up(total, [(cause, cycles)])
    return total


def _resolve(wait: Cause, cycles: int, mix: Parts, worked: int) -> list[tuple[Cause, int]]:
    """Divide a wait by what its producer does. Its waits for the waiting unit count as far as that one does not work."""
    unit, _, other = wait
    weights: dict[Cause, int] = {}
    for cause, weight in mix.items():
        if cause.kind == "wait" and cause.other == unit:
            add_up(weights, [(Cause(unit, "latency", other), max(0, weight - worked))])
        elif cause.kind in _BETWEEN:
            add_up(weights, [(cause, weight)])
    return _divide(cycles, weights) if weights else [(wait, cycles)]


def _divide(cycles: int, weights: Parts) -> list[tuple[Cause, int]]:
    """Whole parts of `cycles` in proportion to weights: rounded down, what is left goes to the largest remainders."""
    whole = sum(weights.values())
    parts = {cause: cycles * weight // whole for cause, weight in weights.items()}
    by_remainder = sorted(weights, key=lambda cause: (-(cycles * weights[cause] % whole), cause))
    for cause in by_remainder[: cycles - sum(parts.values())]:
        parts[cause] += 1
    return list(parts.items())


def _mixes(result: RunResult) -> dict[str, dict[Cause, int]]:
    """What each unit does, summed over all cores of a launch."""
    mixes: dict[str, dict[Cause, int]] = {}
    for core in result.cores:
        for name, stats in core.units.items():
            add_up(mixes.setdefault(name, {}), split_stats(name, stats).items())
    return mixes
