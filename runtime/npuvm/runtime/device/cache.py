"""The program cache: compiled kernels by plan, shapes, pins, chip and instruction set."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

__all__ = ["ProgramCache"]

T = TypeVar("T")


class ProgramCache(Generic[T]):
    """Keeps the `capacity` most recently used programs. A cached program is relocated to new tensors, never recompiled."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.hits = 0
        self.misses = 0
        self._programs: OrderedDict[Hashable, T] = OrderedDict()

    def __len__(self) -> int:
        return len(self._programs)

    def get(self, key: Hashable, make: Callable[[], T]) -> tuple[T, bool]:
        """The program under `key`, made by `make` when there is none; and whether it was there."""
        found = self._programs.get(key)
        if found is not None:
            self._programs.move_to_end(key)
            self.hits += 1
            return found, True
        program = make()
        self.misses += 1
        self._programs[key] = program
        if len(self._programs) > self.capacity:
            self._programs.popitem(last=False)
        return program, False
