"""What accounts for the difference of two points, told by rule: of each objective the largest part."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from npuvm.explore.results.comparison import Comparison, Pair, WorkloadPair, largest_part
from npuvm.explore.results.words import value_text
from npuvm.explore.space import Objective, Space
from npuvm.runtime.html.words import percent, three_digits

__all__ = ["conclusions", "instead"]

_MUCH = 0.25
"""Work that changed by less than this part of the time on the device is not told."""


def conclusions(space: Space, found: Comparison) -> tuple[str, ...]:
    """Lines of what stands in the way of a comparison, then one for each objective."""
    return (*_states(found), *(_objective(found, objective) for objective in space.objectives))


def _states(found: Comparison) -> Iterator[str]:
    if not found.parameters:
        yield f"{found.a} and {found.b} have the same parameters"
    if found.codes[0] != found.codes[1]:
        a, b = (code or "unknown" for code in found.codes)
        yield f"{found.a} was evaluated by code {a}, {found.b} by {b}: some of what differs may come from that"
    for number, state, error in zip((found.a, found.b), found.states, found.errors, strict=True):
        if state == "failed":
            yield f"{number} failed: {error}"
        elif state == "pruned":
            yield f"{number} was pruned: a point of the front beats its bounds, so it was not simulated whole"
        elif state == "over_budget":
            yield f"{number} is over a budget"


def _objective(found: Comparison, objective: Objective) -> str:
    name = objective.name
    figures = next(each for each in found.measures if each.name == name).figures
    if figures is None:
        return f"{name}: no figure of both points"
    if figures.same:
        return f"{name}: the same"
    reason = _reason(found, objective, figures.change)
    return f"{name}: {found.b} has {instead(figures)}" + (f"; {reason}" if reason else "")


def _reason(found: Comparison, objective: Objective, change: float) -> str:
    measure = objective.measure.name
    workloads = [each for each in found.workloads if objective.workload in (None, each.workload)]
    if measure == "area_mm2":
        # "other" is a share of all the rest, and so explains nothing.
        return _largest([each for each in found.area_mm2 if each.name != "other"], change, "mm2")
    if measure == "decoder_gates":
        return _extensions(found)
    if not workloads:
        return ""
    if measure == "energy_uj":
        return _largest(_energy(workloads), change, "uJ")
    if measure == "power_w":
        return _power(workloads)
    throughput = measure == "throughput_per_s"
    times = {each.workload: each.interval_us if throughput else each.latency_us for each in workloads}
    parts = [Pair(each.workload, *(each.weight * us for us in _sides(times[each.workload]))) for each in workloads]
    most = largest_part(parts, -change if throughput else change)
    if most is None:
        return ""
    chosen = next(each for each in workloads if each.workload == most.name)
    several = f"most of it by {chosen.workload}: " if len(workloads) > 1 else ""
    return several + (_interval(chosen) if throughput else _latency(chosen))


def _sides(pair: Pair) -> tuple[float, float]:
    return pair.a, pair.b


def _latency(workload: WorkloadPair) -> str:
    """The host's and the device's part of a workload's change, and what the critical unit did with the device's."""
    whole = workload.latency_us.change
    device, host = (0.0 if each.same else each.change for each in (workload.device_us, workload.host_us))
    text = f"of {_signed(whole)} us the device has {_signed(device)} us, the host's dispatch {_signed(host)} us"
    return text + _launches(workload) + (_device(workload) if device else "")


def _interval(workload: WorkloadPair) -> str:
    """What runs one after another take, beside their time on the device: the host may be the slower of the two."""
    text = f"a run ends every {instead(workload.interval_us)} us, and takes the device {instead(workload.device_us)} us"
    return text + _launches(workload) + (_device(workload) if workload.device_us.change else "")


def _launches(workload: WorkloadPair) -> str:
    return f", in {instead(workload.launches)} launches" if workload.launches.change else ""


def _device(workload: WorkloadPair) -> str:
    """What of the critical unit's time changed most; where that is a wait, also whose work did; the clock where it changed."""
    change = workload.device_us.change
    part = largest_part(workload.critical_parts, change)
    if part is None:
        return ""
    text = f"; of a mean core's {part.name} {instead(part)} us"
    busy = largest_part((each for each in workload.units if each.name.endswith(": busy")), change)
    if busy is not None and not part.name.endswith(": busy") and abs(busy.change) >= _MUCH * abs(change):
        text += f"; the work that changed most is {busy.name} {instead(busy)} us"
    return text + _clock(workload)


def _clock(workload: WorkloadPair) -> str:
    """What the clocks are, told where they differ."""
    cycles, device = workload.cycles, workload.device_us
    if not (device.a and device.b):
        return ""
    clocks = Pair("GHz", cycles.a / device.a / 1e3, cycles.b / device.b / 1e3)
    return "" if abs(clocks.share or 0.0) < 1e-6 else f"; the clock has {instead(clocks)} GHz"


def _largest(parts: Sequence[Pair], change: float, unit: str) -> str:
    part = largest_part(parts, change)
    if part is None:
        return ""
    return f"most of it in {part.name.replace('_', ' ')}: {_signed(part.change)} of {_signed(change)} {unit}"


def _energy(workloads: Sequence[WorkloadPair]) -> tuple[Pair, ...]:
    """Energy by component over workloads by their weights."""
    weight = sum(each.weight for each in workloads)
    parts = [(each.weight / weight, part) for each in workloads for part in each.energy_uj]
    return tuple(
        Pair(
            name,
            sum(share * part.a for share, part in parts if part.name == name),
            sum(share * part.b for share, part in parts if part.name == name),
        )
        for name in dict.fromkeys(part.name for _, part in parts)
    )


def _power(workloads: Sequence[WorkloadPair]) -> str:
    """Power is energy over time: by which factor each changes."""
    parts = _energy(workloads)
    energy = Pair("energy", sum(part.a for part in parts), sum(part.b for part in parts))
    time = Pair(
        "time",
        sum(each.weight * each.device_us.a for each in workloads),
        sum(each.weight * each.device_us.b for each in workloads),
    )
    if not (energy.a and time.a):
        return ""
    return f"{three_digits(energy.b / energy.a)} times the energy in {three_digits(time.b / time.a)} times the device's time"


def _extensions(found: Comparison) -> str:
    changed = [
        f"{name}={value_text(b)}" for name, (_, b) in found.parameters.items() if name.startswith("isa.extensions.")
    ]
    return f"{found.b} has {', '.join(changed)}" if changed else ""


def instead(pair: Pair) -> str:
    """ "12 instead of 8 (+50.0 %)"; the share is left out where there is nothing to compare with."""
    share = "" if pair.share is None else f" ({'+' if pair.share > 0 else ''}{percent(pair.share)})"
    a, b = three_digits(pair.a), three_digits(pair.b)
    if a == b and not pair.same:
        a, b = f"{pair.a:,.6g}", f"{pair.b:,.6g}"
    return f"{b} instead of {a}{share}"


def _signed(value: float) -> str:
    return f"{'+' if value > 0 else '-' if value < 0 else ''}{three_digits(abs(value))}"
