"""Error bars of a chip's numbers carried through to times: bands from samples, and what each number moves alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from npuvm.hw.config import NpuConfig
from npuvm.hw.uncertainty.parameters import Parameter, uncertain_parameters
from npuvm.hw.uncertainty.samples import chip_at_end, sample_chips

__all__ = ["DEFAULT_SAMPLES", "DEFAULT_SEED", "Band", "Influence", "Measure", "Propagated", "propagate"]

DEFAULT_SAMPLES = 50
DEFAULT_SEED = 1

Measure: TypeAlias = Callable[[NpuConfig], Mapping[str, int]]
"""Cycles of each thing that is asked about (a kernel), by name, on a chip; the names are the same for all chips."""

Progress: TypeAlias = Callable[[int, int, str], None]


@dataclass(frozen=True)
class Band:
    """5th, 50th and 95th percentile of a quantity over the samples: each a value of some sample (nearest rank)."""

    p5: float
    p50: float
    p95: float

    @staticmethod
    def of(values: Sequence[float]) -> Band:
        """The band of at least one value."""
        ordered = sorted(values)
        return Band(*(ordered[-(-len(ordered) * percent // 100) - 1] for percent in (5, 50, 95)))

    @property
    def width(self) -> float:
        """p95 - p5."""
        return self.p95 - self.p5

    def to_json(self) -> dict[str, float]:
        """The percentiles as plain JSON values."""
        return {"p5": self.p5, "p50": self.p50, "p95": self.p95}


@dataclass(frozen=True)
class Influence:
    """What one number does alone: microseconds of a thing with the number at the low and at the high end of its error bar."""

    parameter: Parameter
    low_us: float
    high_us: float
    nominal_us: float

    @property
    def swing_us(self) -> float:
        """Largest less smallest of the three times."""
        times = (self.low_us, self.high_us, self.nominal_us)
        return max(times) - min(times)

    @property
    def swing_pct(self) -> float:
        """The swing in percent of the nominal time."""
        return 100 * self.swing_us / self.nominal_us if self.nominal_us else 0.0

    def to_json(self) -> dict[str, Any]:
        """The influence as plain JSON values."""
        low, high = self.parameter.range
        return {
            "parameter": self.parameter.path,
            "trust": self.parameter.trust,
            "error_pct": 100 * self.parameter.error,
            "value": float(self.parameter.value),
            "range": [float(low), float(high)],
            "low_us": self.low_us,
            "high_us": self.high_us,
            "swing_pct": self.swing_pct,
        }


@dataclass(frozen=True)
class Propagated:
    """A thing's time on the chip as its file has it, over the samples, and the numbers that move it, most first.

    Times are simulated: `nominal` in cycles, `cycles` and `microseconds` as bands; as the clock is uncertain too, the one is
    not a multiple of the other. `influences` leaves out numbers without any.
    """

    nominal: int
    nominal_us: float
    cycles: Band
    microseconds: Band
    influences: tuple[Influence, ...]

    def to_json(self) -> dict[str, Any]:
        """The result as plain JSON values."""
        return {
            "nominal_cycles": self.nominal,
            "nominal_us": self.nominal_us,
            "cycles": self.cycles.to_json(),
            "microseconds": self.microseconds.to_json(),
            "influences": [influence.to_json() for influence in self.influences],
        }


def propagate(
    chip: NpuConfig,
    measure: Measure,
    *,
    samples: int = DEFAULT_SAMPLES,
    seed: int = DEFAULT_SEED,
    influences: bool = True,
    relevant: Callable[[str], bool] = lambda _: True,
    progress: Progress = lambda _done, _total, _label: None,
) -> dict[str, Propagated]:
    """Measure a chip, `samples` chips drawn from its error bars, and chips with one number at an end of its bar.

    Without `influences` the last are left out, and the result has none. `relevant` says of a field path whether the cycles can
    depend on it at all; what is not relevant stays as it is. Same arguments, same numbers. The result has the names of
    `measure`.
    """
    parameters = tuple(each for each in uncertain_parameters(chip) if relevant(each.path))
    alone = parameters if influences else ()
    total = 1 + samples + len(alone)
    progress(0, total, "the chip as it is")
    nominal = measure(chip)
    drawn: list[tuple[NpuConfig, Mapping[str, int]]] = []
    for index, each in enumerate(sample_chips(chip, parameters, samples, seed) if parameters else ()):
        progress(1 + index, total, f"sample {index + 1} of {samples}")
        drawn.append((each, measure(each)))
    drawn = drawn or [(chip, nominal)]
    moved: dict[str, list[Influence]] = {name: [] for name in nominal}
    for index, parameter in enumerate(alone):
        progress(1 + samples + index, total, parameter.path)
        for name, influence in _alone(chip, measure, parameter, nominal).items():
            moved[name].append(influence)
    progress(total, total, "done")
    return {
        name: Propagated(
            cycles,
            _us(chip, cycles),
            Band.of([result[name] for _, result in drawn]),
            Band.of([_us(sampled, result[name]) for sampled, result in drawn]),
            tuple(sorted(moved[name], key=lambda influence: -influence.swing_us)),
        )
        for name, cycles in nominal.items()
    }


def _alone(chip: NpuConfig, measure: Measure, parameter: Parameter, nominal: Mapping[str, int]) -> dict[str, Influence]:
    """What a number moves alone, of the things that it does move.

    When the end of the bar that makes the chip slower changes nothing, the other end is not tried.
    """
    as_it_is = {name: _us(chip, cycles) for name, cycles in nominal.items()}
    slow, fast = (-1, 1) if parameter.faster_when_higher else (1, -1)
    times = {slow: as_it_is, fast: as_it_is}
    for end in (slow, fast):
        changed = chip_at_end(chip, parameter, end)
        if changed is not None:
            times[end] = {name: _us(changed, cycles) for name, cycles in measure(changed).items()}
        if times[end] == as_it_is:
            break
    found = {name: Influence(parameter, times[-1][name], times[1][name], us) for name, us in as_it_is.items()}
    return {name: influence for name, influence in found.items() if influence.swing_us}


def _us(chip: NpuConfig, cycles: int) -> float:
    return float(chip.cycles_to_us(cycles))
