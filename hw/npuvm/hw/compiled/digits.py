"""Whether the numbers of a chip fit the compiled engine, which counts parts of a cycle in 64-bit integers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from npuvm.hw.errors import ConfigError
from npuvm.hw.memory.chunks import engines_of

if TYPE_CHECKING:
    from npuvm.hw.config import NpuConfig

__all__ = ["check_digits"]

_MOST = 1 << 62
"""Two numbers below it add up to one that 64 bits hold."""


def check_digits(chip: NpuConfig) -> None:
    """ConfigError when parts of a cycle would outgrow 64 bits: rates and rows are rationals with too many digits.

    The other engine counts in Python's integers and takes any.
    """
    for what, fields, largest in _largest(chip):
        if largest >= _MOST:
            raise ConfigError(
                f"{what} counts in parts of a cycle that outgrow the 64 bits of the compiled engine; allowed are fewer digits "
                f"of {fields}, or the engine simpy",
                chip.name,
            )


def _largest(chip: NpuConfig) -> Iterator[tuple[str, str, int]]:
    """What counts, by which fields, and the largest number that it meets."""
    l2, hbm = chip.memory.l2, chip.memory.hbm
    # A server of p/q bytes a cycle counts in 1/p cycle: a byte takes q.
    slice_rate, channel_rate = chip.l2_bytes_per_cycle / l2.slices, chip.hbm_bytes_per_cycle / hbm.channels
    for what, path, rate, most in (
        ("a slice of L2", "memory.l2.bandwidth_gbps", slice_rate, l2.line_bytes),
        ("a channel of HBM", "memory.hbm.bandwidth_gbps", channel_rate, l2.line_bytes + hbm.burst_bytes),
    ):
        yield what, f"{path} and clock_ghz", max(rate.numerator, most * rate.denominator)
    for name, engine in engines_of(chip).items():
        bytes_of_request = engine.chunk_bytes * max(engine.units // rate for rate in engine.rates.values())
        rows = engine.chunk_bytes // engine.min_burst_bytes
        rows_of_request = rows * max(int(cycles * engine.units) for cycles in engine.row_cycles.values())
        fields = f"core.{name}'s rates and row cycles"
        yield f"the port of {name}", fields, max(engine.units, bytes_of_request + rows_of_request)
