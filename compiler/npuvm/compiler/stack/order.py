"""What depends on what among launches: levels that may run side by side, and a workspace whose bytes are used again."""

from __future__ import annotations

from bisect import insort
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from npuvm.compiler.emit.blocks import align_up
from npuvm.isa.records import quick_record

__all__ = ["WORKSPACE_ALIGN_BYTES", "Lifetime", "levels_of", "lifetimes_of", "place_workspace", "side_by_side"]

WORKSPACE_ALIGN_BYTES = 512
"""Where tensors of a workspace begin: as in device memory, no two share a line of the second-level cache."""


@quick_record
@dataclass(frozen=True, slots=True)
class Lifetime:
    """The first and the last level in which a tensor is used."""

    first: int
    last: int

    def meets(self, other: Lifetime) -> bool:
        """Whether both are needed in some level."""
        return self.first <= other.last and other.first <= self.last


def levels_of(
    uses: Sequence[tuple[Collection[str], Collection[str]]], beside: Collection[int] = frozenset()
) -> list[int]:
    """The earliest level of each user, given as (what it touches, what it writes of that), in program order.

    A user comes after all that wrote what it touches, and after all that touched what it writes. Those with the numbers
    `beside` are in the level of the one before them.
    """
    written: dict[str, int] = {}
    touched: dict[str, int] = {}
    levels: list[int] = []
    for number, (names, writes) in enumerate(uses):
        level = 0
        if number in beside:
            level = levels[-1]
        else:
            for name in names:
                before = (touched if name in writes else written).get(name, 0)
                if before > level:
                    level = before
        levels.append(level)
        after = level + 1
        for name in names:
            if touched.get(name, 0) < after:
                touched[name] = after
            if name in writes:
                written[name] = after
    return levels


def lifetimes_of(names: Collection[str], uses: Sequence[Collection[str]], levels: Sequence[int]) -> dict[str, Lifetime]:
    """When each of `names` is used; those that nobody touches are left out."""
    found: dict[str, list[int]] = {}
    for touched, level in zip(uses, levels, strict=True):
        for name in touched:
            if name in names:
                found.setdefault(name, []).append(level)
    return {name: Lifetime(min(own), max(own)) for name, own in found.items()}


def side_by_side(sizes: Mapping[str, int]) -> dict[str, int]:
    """What `place_workspace` gives for tensors that are all needed at once."""
    offsets: dict[str, int] = {}
    at = 0
    for name in sorted(sizes, key=sizes.__getitem__, reverse=True):
        offsets[name] = at
        at += align_up(sizes[name], WORKSPACE_ALIGN_BYTES)
    return offsets


def place_workspace(sizes: Mapping[str, int], lifetimes: Mapping[str, Lifetime]) -> dict[str, int]:
    """A byte offset for every tensor of a workspace; tensors that are never needed at once may share bytes.

    The largest are placed first, each at the lowest offset at which it fits between those it meets.
    """
    if len(sizes) == 1:
        return dict.fromkeys(sizes, 0)
    placed: list[tuple[int, int, Lifetime]] = []  # by their begin
    offsets: dict[str, int] = {}
    for name in sorted(sizes, key=lambda each: -sizes[each]):
        lifetime, size = lifetimes.get(name), align_up(sizes[name], WORKSPACE_ALIGN_BYTES)
        at = 0
        if lifetime is not None:
            for start, stop, other in placed:
                if stop > at and lifetime.meets(other):
                    if at + size <= start:
                        break
                    at = stop
            insort(placed, (at, at + size, lifetime), key=lambda each: each[0])
        offsets[name] = at
    return offsets
