"""Bytes that a tile covers: rows at a pitch."""

from __future__ import annotations

from typing import Protocol

__all__ = ["Rows", "share_a_byte"]


class Rows(Protocol):
    """`rows` segments of `row_bytes` bytes, `pitch` bytes apart, within [low, high). With one row the pitch does not count."""

    @property
    def low(self) -> int:
        """First byte."""

    @property
    def high(self) -> int:
        """One past the last byte."""

    @property
    def rows(self) -> int:
        """Number of segments, at least 1."""

    @property
    def row_bytes(self) -> int:
        """Bytes of a segment."""

    @property
    def pitch(self) -> int:
        """Bytes from a segment to the next, above 0 where there are several."""


def share_a_byte(one: Rows, other: Rows) -> bool:
    """Whether two regions of one space share a byte. Exact; the work grows with the rows of the one that has fewer."""
    if one.low >= other.high or other.low >= one.high:
        return False
    few, many = (one, other) if one.rows <= other.rows else (other, one)
    for row in range(few.rows):
        start = few.low + row * few.pitch
        # The first segment of `many` that ends behind `start`.
        first = 0 if many.rows == 1 else max(0, -(-(start - many.low - many.row_bytes + 1) // many.pitch))
        begin = many.low + first * many.pitch
        if first < many.rows and begin < start + few.row_bytes and start < begin + many.row_bytes:
            return True
    return False
