"""HBM during one launch: channels as servers, with whole bursts, open rows, turns, and lines that cores have one after another.

docs/timing-model.md, section Memory, is the contract. Times count in parts of a cycle so small that a byte takes a whole
number of them, so no remainder is lost.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

__all__ = ["Channels", "HbmParams", "mix"]


@dataclass(frozen=True)
class HbmParams:
    """Numbers of a chip's HBM; `rate` in bytes a core cycle for all channels together, `latency` in cycles."""

    rate: Fraction
    latency: int
    channels: int
    interleave_bytes: int
    burst_bytes: int = 1
    row_bytes: int = 0
    row_miss_cycles: int = 0
    banks: int = 16
    turnaround_cycles: int = 0
    same_line_cycles: int = 0


def mix(number: int) -> int:
    """A number with its higher bits laid over the lower ones, so that power-of-two pitches spread."""
    return number ^ number >> 5 ^ number >> 10 ^ number >> 15 ^ number >> 20


class Channels:
    """The channels; a line lies in the one of its block of `interleave_bytes`, picked by a hash when `hashed`."""

    __slots__ = (
        "_banks",
        "_burst",
        "_busy",
        "_byte",
        "_hashed",
        "_last",
        "_lines_per_block",
        "_lines_per_row",
        "_open",
        "_plain",
        "_row_miss",
        "_same_line",
        "_turnaround",
        "_units",
        "_wrote",
        "line_bytes",
    )

    def __init__(self, params: HbmParams, line_bytes: int, hashed: bool) -> None:
        rate = params.rate / params.channels
        # A channel with rate p/q counts in units of 1/p cycle: a byte then takes q units.
        self._units, self._byte = rate.numerator, rate.denominator
        self.line_bytes = line_bytes
        self._lines_per_block = params.interleave_bytes // line_bytes
        self._lines_per_row = params.row_bytes * params.channels // line_bytes
        self._hashed = hashed
        self._burst = params.burst_bytes
        self._banks = params.banks
        self._row_miss = params.row_miss_cycles * self._units
        self._turnaround = params.turnaround_cycles * self._units
        self._same_line = params.same_line_cycles * self._units
        self._plain = not (self._row_miss or self._turnaround or self._same_line)
        self._busy = [0] * params.channels
        self._wrote: list[bool | None] = [None] * params.channels
        self._open: dict[tuple[int, int], int] = {}
        # Line and core of each channel's last access that was a core's.
        self._last: list[tuple[int, int] | None] = [None] * params.channels

    def read(self, line: int, nbytes: int, now: int, core: int) -> int:
        """Transfer some bytes of a line for a core; return the cycle in which the last one has left."""
        return self._serve(line, nbytes, now, False, core)

    def write(self, line: int, nbytes: int, now: int, core: int | None) -> int:
        """Transfer some bytes of a line, for a core or out of L2; return the cycle in which the last one is in HBM."""
        return self._serve(line, nbytes, now, True, core)

    def _serve(self, line: int, nbytes: int, now: int, writes: bool, core: int | None) -> int:
        block = line // self._lines_per_block
        which = (mix(block) if self._hashed else block) % len(self._busy)
        units, burst = self._units, self._burst
        end, called = self._busy[which], now * units
        if called > end:
            end = called
        if not self._plain:
            end += self._preparation(which, line, writes, core)
        if burst != 1:
            nbytes = -(-nbytes // burst) * burst
        self._busy[which] = end = end + nbytes * self._byte
        return -(-end // units)

    def _preparation(self, which: int, line: int, writes: bool, core: int | None) -> int:
        """Time, in units, until another core is through with the line, to turn the channel round, and to open the row."""
        time = 0
        if self._same_line and core is not None:
            last = self._last[which]
            if last is not None and last[0] == line and last[1] != core:
                time = self._same_line
            self._last[which] = line, core
        if self._wrote[which] is (not writes):
            time += self._turnaround
        self._wrote[which] = writes
        if self._row_miss:
            row = line // self._lines_per_row
            bank = (which, row % self._banks)
            if self._open.get(bank) != row:
                self._open[bank] = row
                time += self._row_miss
        return time
