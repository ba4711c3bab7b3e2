"""Conflicts in the banks of UB: cycles that one vector instruction loses, from its operands' addresses alone.

docs/timing-model.md, section Banks of UB, is the contract. An instruction is a `Pattern`; `conflict_cycles` follows its repeats
through the banks, once for each pattern that differs. Banks are bits of an integer: bank b of group g is bit b x groups + g.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from npuvm.hw.config.model import UbBanksConfig

__all__ = ["BankOperand", "Pattern", "conflict_cycles"]

MOST_REPEATS = 1 << 15
"""Repeats of one instruction that are followed; more do not fit a UB of 1 MiB in rows of a block."""

_Range = tuple[int, int]
"""First and last block, both included."""


class BankOperand(NamedTuple):
    """An operand in UB: address and pitch in bytes; `by_row` and `by_col`: whether it moves on with rows and columns."""

    address: int
    itemsize: int
    pitch: int
    by_row: bool
    by_col: bool
    reads: bool
    writes: bool


class Pattern(NamedTuple):
    """What of an instruction decides its conflicts.

    `elements` are those that a repeat covers; a `dense` tile is one run of rows x cols elements. Without conflicts the repeats
    take (repeats x repeat_num + rows x row_num) / den cycles.
    """

    rows: int
    cols: int
    elements: int
    dense: bool
    repeat_num: int
    row_num: int
    den: int
    operands: tuple[BankOperand, ...]


@lru_cache(maxsize=1 << 16)
def conflict_cycles(banks: UbBanksConfig, pattern: Pattern) -> int:
    """Cycles by which conflicts lengthen the occupancy of an instruction."""
    if not pattern.rows or not pattern.cols:
        return 0
    # A slot is a cycle, or what a repeat takes when that is less.
    slot = min(pattern.repeat_num, pattern.den)
    pace = _Pace(banks)
    repeats = 0
    before: tuple[_Range | None, ...] = (None,) * len(pattern.operands)
    moves = _moves(banks, pattern)
    current = next(moves, None)
    while current is not None and repeats < MOST_REPEATS:
        row, ranges = current
        current = next(moves, None)
        reads, writes = [], []
        for operand, blocks, last, following in zip(
            pattern.operands, ranges, before, current[1] if current else before, strict=True
        ):
            if operand.reads and blocks != last:
                reads.append(blocks)
            if operand.writes and (current is None or blocks != following):
                writes.append(blocks)
        pace.repeat((repeats * pattern.repeat_num + row * pattern.row_num) // slot, reads, writes)
        before = ranges
        repeats += 1
    rows = pattern.rows if current is None else current[0]
    free = -(-(repeats * pattern.repeat_num + rows * pattern.row_num) // slot)
    return -(-max(0, pace.now - free) * slot // pattern.den)


class _Pace:
    """The read and write ports of the groups; `now` is the first slot in which nothing of a repeat is read yet."""

    def __init__(self, banks: UbBanksConfig) -> None:
        self.now = 0
        self._groups = banks.groups
        self._span = banks.groups * banks.rows_per_bank
        self._banks = banks.banks_per_group
        self._all_groups = (1 << banks.groups) - 1
        self._every_bank = sum(1 << bank * banks.groups for bank in range(banks.banks_per_group))
        self._delay = banks.write_delay_cycles
        self._written: dict[int, int] = {}

    def repeat(self, earliest: int, reads: list[_Range], writes: list[_Range]) -> None:
        """Read the blocks of a repeat, not before a slot, in one slot at least; then its writes are on their way."""
        now = max(self.now, earliest)
        pending = [wave for blocks in _distinct(reads) for wave in self._waves(blocks)]
        while True:
            pending = self._slot(pending, self._written.pop(now, 0))
            now += 1
            if not pending:
                break
        self.now = now
        for blocks in writes:
            for number, wave in enumerate(self._waves(blocks)):
                at = now - 1 + self._delay + number
                self._written[at] = self._written.get(at, 0) | wave

    def _slot(self, pending: list[int], written: int) -> list[int]:
        """Read what can be read in a slot: in each group one block, of a bank that is not written; return what is left."""
        shut = written
        left = []
        for wave in pending:
            taken = wave & ~shut
            groups = taken
            for _ in range(self._banks - 1):
                groups |= groups >> self._groups
            shut |= (groups & self._all_groups) * self._every_bank
            if taken != wave:
                left.append(wave ^ taken)
        return left

    def _waves(self, blocks: _Range) -> Iterator[int]:
        """The banks of a run of blocks, as many blocks at a time as there are groups."""
        first, last = blocks
        while first <= last:
            end = min(last, first + self._groups - 1)
            if first // self._span == end // self._span:
                run = ((1 << end - first + 1) - 1) << first % self._groups
                run = run & self._all_groups | run >> self._groups
                yield run << first // self._span % self._banks * self._groups
            else:
                yield sum(
                    1 << block // self._span % self._banks * self._groups + block % self._groups
                    for block in range(first, end + 1)
                )
            first = end + 1


def _distinct(reads: list[_Range]) -> list[_Range]:
    """Runs of blocks without those that an earlier run has as well."""
    found: list[_Range] = []
    for run in reads:
        parts = [run]
        for first, last in found:
            parts = [
                part
                for low, high in parts
                for part in ((low, min(high, first - 1)), (max(low, last + 1), high))
                if part[0] <= part[1]
            ]
        found.extend(parts)
    return found


def _moves(banks: UbBanksConfig, pattern: Pattern) -> Iterator[tuple[int, tuple[_Range, ...]]]:
    """The repeats in order: row, and for each operand the blocks that it touches."""
    rows, cols, elements = pattern.rows, pattern.cols, pattern.elements
    if pattern.dense:
        rows, cols = 1, rows * cols
    per_row = -(-cols // elements)
    size = banks.block_bytes
    for row in range(rows):
        for step in range(per_row):
            column = step * elements
            count = min(elements, cols - column)
            ranges = []
            for operand in pattern.operands:
                at = operand.address + (row * operand.pitch if operand.by_row else 0)
                length = operand.itemsize
                if operand.by_col:
                    at += column * operand.itemsize
                    length *= count
                ranges.append((at // size, (at + length - 1) // size))
            yield row if not pattern.dense else step * pattern.rows // per_row, tuple(ranges)
