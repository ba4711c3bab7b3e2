"""Which accesses of an on-chip buffer are not ordered: read after write, write after read, write after write."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from npuvm.isa.regions import share_a_byte
from npuvm.isa.verifier.program import Leaf
from npuvm.isa.verifier.walk import Act, Region

__all__ = ["Accesses", "Clock", "Memory", "overlap"]

Clock: TypeAlias = tuple[int, ...]
"""Per unit of a domain, how many of its instructions are known to have completed."""


_Place: TypeAlias = tuple[int, int, tuple[int, int], int, int, int, int, int, bool]
"""A unit, the bytes that it touches, and whether it writes them."""


@dataclass(frozen=True, slots=True)
class _Access:
    """The latest access of a unit to a place. Who is ordered after it is ordered after all that the unit did there before."""

    leaf: Leaf
    region: Region
    unit: int
    sequence: int


class Accesses(Protocol):
    """What follows the accesses of one core's buffers."""

    def clear(self) -> None:
        """Forget: everything so far has completed."""

    def access(self, act: Act, unit: int, sequence: int, clock: Clock) -> Iterator[str]:
        """Record what an instruction touches; yields what is wrong for every earlier access it is not ordered after."""


@dataclass
class Memory:
    """The accesses of one core's buffers since its last barrier."""

    _spaces: dict[str, dict[_Place, _Access]] = field(default_factory=dict)

    def clear(self) -> None:
        """Forget: everything so far has completed."""
        self._spaces.clear()

    def access(self, act: Act, unit: int, sequence: int, clock: Clock) -> Iterator[str]:
        """Record what an instruction touches; yields what is wrong for every earlier access it is not ordered after.

        Between units every conflict needs an order. Within a unit, which starts and completes in order, only a read after
        a write does.
        """
        for region in act.regions:
            for earlier in self._spaces.get(region.space, {}).values():
                theirs = earlier.region
                if clock[earlier.unit] >= earlier.sequence or not _meet(theirs.hull, region.hull):
                    continue
                read_after_write = theirs.writes and region.reads
                if not (read_after_write or (earlier.unit != unit and (theirs.writes or region.writes))):
                    continue
                if overlap(theirs, region):
                    yield _describe(earlier, region, read_after_write, earlier.unit == unit)
        for region in act.regions:
            access = _Access(act.leaf, region, unit, sequence)
            self._spaces.setdefault(region.space, {})[_place(region, unit)] = access


def _place(r: Region, unit: int) -> _Place:
    return unit, r.ring, r.hull, r.low, r.high, r.rows, r.row_bytes, r.pitch, r.writes


def _describe(earlier: _Access, region: Region, read_after_write: bool, same_unit: bool) -> str:
    theirs = earlier.region
    kind = "read after write" if read_after_write else "write after write" if theirs.writes else "write after read"
    remedy = "the order bit" if same_unit else "a semaphore or a barrier"
    low, high = max(region.low, theirs.low), min(region.high, theirs.high)
    if low >= high:  # in slots that the walk does not come to
        low, high = max(region.hull[0], theirs.hull[0]), min(region.hull[1], theirs.hull[1])
    place = f"{region.space} bytes {low} to {high}"
    other = f"{earlier.leaf.insn.op} of word {earlier.leaf.pc}"
    return f"{region.operand}: {kind} in {place}, not ordered after {theirs.operand} of {other}; allowed with {remedy}"


def _meet(one: tuple[int, int], other: tuple[int, int]) -> bool:
    return one[0] < other[1] and other[0] < one[1]


def overlap(one: Region, other: Region) -> bool:
    """Whether two regions of one space share a byte: exact for rows at a pitch.

    The walk does not come to every slot of a ring, so what is not of the same ring is held against all of its slots.
    """
    if one.ring != other.ring and (one.hull, other.hull) != ((one.low, one.high), (other.low, other.high)):
        return _meet(one.hull, other.hull)
    return share_a_byte(one, other)
