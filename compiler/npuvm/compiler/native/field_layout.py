"""What the kernel that fills a template reads of each field."""

from __future__ import annotations

from enum import IntEnum

__all__ = ["Field"]


class Field(IntEnum):
    """Integers of a field: its word, the number of its value, its lowest bit, a mask, and what values it takes."""

    WORD = 0
    VALUE = 1
    SHIFT = 2
    MASK = 3
    LOW = 4
    HIGH = 5
